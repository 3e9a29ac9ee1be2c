"""A shared secret, and what may be wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.settings import trim

MIN_SECRET_BYTES: Final = 32
"""RFC 7518, section 3.2: an HS256 key has at least the size of its hash."""

_ACCIDENTS: Final = {
    words: re.compile(pattern, re.DOTALL)
    for words, pattern in {
        "a byte order mark (BOM)": r"\ufeff",
        "an invisible character, such as a zero-width space": (
            r"[\x00-\x08\x0e-\x1f\x7f-\xa0\xad\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f]"
        ),
        "white space at one end": r"\A\s|\s\Z",
        "quotes around it": r"\A[\s\ufeff]*(['\"]).*\1[\s\ufeff]*\Z",
        "the form NAME=value": r"\A[\s\ufeff'\"]*(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*=[^=\s]",
        "several lines": r"\S\s*[\r\n]\s*\S",
    }.items()
}
"""What is hardly ever meant to be part of a secret. A base64 text ends in ``=``: no value."""

_COMMENT: Final = re.compile(r"#(?:\s|\Z)")
"""A comment beside secrets. As a secret it would be one that anybody can guess."""


@dataclass(frozen=True, slots=True)
class SharedSecret(HoldsSecret):
    """A shared secret for HS256, and where it came from."""

    algorithm: ClassVar[str] = "HS256"

    secret: str = field(repr=False)
    key_id: str | None
    source: str
    """The variable or field it came from, and the file's path if there is one."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What an operator should know about it; no warning shows any part of the secret."""

    def fingerprint(self) -> str:
        """Return what two hosts can compare; see `fingerprint.fingerprint`."""
        from .fingerprint import fingerprint  # rarely used

        return fingerprint(self.secret)

    def lines(self) -> tuple[SharedSecret, ...]:
        """Return a key for each line of a file that may hold several secrets.

        Blank lines, and comments (``#`` and a space), are left out. A line keeps its white space,
        apart from its end.
        """
        texts = [line.rstrip("\r") for line in self.secret.split("\n")]
        if len(texts) == 1:
            return () if _COMMENT.match(texts[0]) else (self,)
        numbered = [
            (f"{self.source}, line {number}", text)
            for number, text in enumerate(texts, start=1)
            if trim(text) and not _COMMENT.match(text)
        ]
        keys = [replace(self, secret=text, source=at, warnings=()) for at, text in numbered]
        # What is wrong with the whole file is said once.
        return tuple(replace(key, warnings=self.warnings) for key in keys[:1]) + tuple(keys[1:])


def parse_secret(text: str, source: str) -> SharedSecret:
    """Return the secret that the text of a file is."""
    return SharedSecret(text, None, source)


def form_warnings(key: SharedSecret) -> tuple[str, ...]:
    """Return what is unusual about the secret's form; it is used as it is."""
    warnings = []
    size = len(key.secret.encode())
    if size < MIN_SECRET_BYTES:
        warnings.append(
            f"{key.source} is {size} bytes long; HS256 asks for at least {MIN_SECRET_BYTES}"
            " (RFC 7518, section 3.2)"
        )
    if found := [words for words, pattern in _ACCIDENTS.items() if pattern.search(key.secret)]:
        warnings.append(
            f"{key.source} has {', '.join(found)}: this looks like an accident,"
            " but it is used as part of the secret"
        )
    return tuple(warnings)
