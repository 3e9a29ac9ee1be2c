"""Key files: PEM files and JWK sets that are read, merged and added to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from manor_mcp_interceptors._keys.jwks import key_id_of, leak_in, read_key, read_members
from manor_mcp_interceptors._keys.private_key import parse_private_key
from manor_mcp_interceptors._keys.public_key import KINDS, PublicKey, algorithm_of, public_jwk
from manor_mcp_interceptors._keys.watched_file import NotUsableError
from manor_mcp_interceptors._optional import needs

JWK = dict[str, Any]

_PEM: Final = "-----BEGIN "
_BEGIN: Final = re.compile("-----BEGIN [A-Z ]*KEY-----")
_FORM: Final = (
    f"holds no key that can be used: {KINDS}, as a PEM private key, a PEM public key, or members"
    " of a JWK set"
)


class KeyFileError(Exception):
    """A file cannot be used; the text names it and says why, and holds nothing secret."""


@dataclass(slots=True)
class MergedKeys:
    """The public keys of some files, each once."""

    keys: list[JWK] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Which keys of the files are not among them, and why."""
    has_pem: bool = False
    """Whether a file was PEM."""
    _found: dict[str, tuple[PublicKey, Path]] = field(default_factory=dict)

    def add_file(self, path: Path, subjects: Sequence[str]) -> None:
        """Add the public keys of `path`.

        Args:
            path: A PEM file or a JWK set.
            subjects: Those that the key of a PEM file speaks for; none: any.

        Raises:
            KeyFileError: The file cannot be used.
            MissingExtraError: `cryptography` is not installed.
        """
        text = _text_of(path)
        if _PEM in text:
            self.has_pem = True
            with _naming(path):
                jwk = _jwk_of_pem(text)
            self._add(path, bind(jwk, subjects))
            return
        if not text.lstrip().startswith("{"):
            raise KeyFileError(f"{path} {_FORM}")
        for number, member in enumerate(_public_members(path, text), start=1):
            self._add_or_leave_out(path, member, key_id_of(member) or f"number {number}")

    def _add_or_leave_out(self, path: Path, jwk: JWK, name: str) -> None:
        try:
            self._add(path, jwk)
        except NotUsableError as error:
            self.left_out.append(f"{path}: the key {name} is left out: {error}")

    def _add(self, path: Path, jwk: JWK) -> None:
        key = read_key(jwk)
        known, other = self._found.setdefault(key.key_id, (key, path))
        if known != key:
            problem = "with another key or sub: remove it from one of the two"
            raise KeyFileError(f"{path}: the kid {key.key_id} is in {other} too, {problem}")
        if known is key:
            # Made from the key, so that it holds nothing but what is public.
            sub = {"sub": jwk["sub"]} if "sub" in jwk else {}
            self.keys.append({**public_jwk(key.key), "kid": key.key_id, **sub})


def bind(jwk: Mapping[str, Any], subjects: Sequence[str]) -> JWK:
    """Return `jwk` as that of a key that speaks for `subjects`; if there are none, for any.

    Raises:
        KeyFileError: They are no subjects, or no patterns of subjects.
    """
    if not subjects:
        return dict(jwk)
    bound = {**jwk, "sub": subjects[0] if len(subjects) == 1 else list(subjects)}
    try:
        read_key(bound)
    except NotUsableError as error:
        raise KeyFileError(f"the key cannot be bound to {', '.join(subjects)!r}: {error}") from None
    return bound


def with_key(path: Path, jwk: JWK) -> str:
    """Return the JWK set of `path` with `jwk` added; what is in it stays as it is.

    Raises:
        KeyFileError: The file cannot be used. A missing one counts as an empty set.
    """
    if not path.parent.is_dir():
        raise KeyFileError(f"{path} cannot be written: there is no folder {path.parent}")
    text = _text_of(path) if path.exists() else shown([])
    members = _public_members(path, text)
    return _json({**json.loads(text), "keys": [*members, jwk]})


def shown(keys: Sequence[JWK]) -> str:
    """Return the text of a JWK set."""
    return _json({"keys": keys})


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise KeyFileError(f"{path} is not UTF-8 text") from None


def _public_members(path: Path, text: str) -> list[Any]:
    """Return the members of a JWK set, none of which is private."""
    with _naming(path):
        members = read_members(text)
    if leaks := [
        f"{key_id_of(one) or 'a key'}: {leak}" for one in members if (leak := leak_in(one))
    ]:
        raise KeyFileError(
            f"{path} holds more than public keys: {'; '.join(leaks)}. Whoever read it can sign:"
            " replace these keys everywhere, and remove them from the file"
        )
    return members


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except NotUsableError as error:
        raise KeyFileError(f"{path} {error}") from None


def _jwk_of_pem(text: str) -> JWK:
    if len(_BEGIN.findall(text)) > 1:
        raise NotUsableError("holds several keys; give each one a file")
    if "PRIVATE KEY-----" in text:
        return dict(parse_private_key(text).public_jwk())
    with needs("cryptography", "a public key", extra="crypto"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise NotUsableError(_FORM) from None
    if algorithm_of(key) is None:
        raise NotUsableError(_FORM)
    return dict(public_jwk(key))
