"""A token that something else has made: what can be read from it without trust."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.settings import trim

from .watched_file import NotUsableError

_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
"""A token becomes part of a header: with any other character it could become another header."""
_JWT_START: Final = "eyJ"
"""base64url of ``{"``, with which the header of nearly every JWT begins."""
_JWE_DOTS: Final = 4
_SIGNATURE_BYTES: Final = {
    **dict.fromkeys(("ES256", "EdDSA"), 64),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), 256),
    "HS256": 32,
    "ES384": 96,
    "ES512": 132,
}
"""The least size of a signature, by `alg`."""
_MAX_TIME: Final = 2**53
_MAX_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class GivenToken(HoldsSecret):
    """A token from a file or from a token source. What it claims is not verified here."""

    value: str = field(repr=False)
    source: str = field(compare=False)
    """The variable or field and the file's path, or the name of the token source."""
    expires_at: int | None = None
    """Unix time, seconds; None if the token does not say."""
    audiences: tuple[str, ...] | None = None
    """None if the token is opaque: not a JWT that this process can read."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What an operator should know about it."""

    def check_audience(self, audience: str) -> None:
        """Check that the token is for `audience`. An opaque one is not checked.

        Raises:
            SettingsError: It is for others, or does not say for whom.
        """
        if self.audiences is None or audience in self.audiences:
            return
        raise SettingsError(
            f"{self.source}: the token is not for the audience {audience!r};{self._shown_aud()}",
            variable=self.source.partition(" ")[0],
        )

    def describe_expiry(self, ago: float) -> str:
        """Return, for an operator, that it expired `ago` seconds ago."""
        aud = "" if self.audiences is None else f";{self._shown_aud()}"
        warnings = "".join(f"; {text}" for text in self.warnings)
        return f"{self.source}: the token expired {ago:.0f} s ago{aud}{warnings}"

    def _shown_aud(self) -> str:
        shown = ", ".join(map(ascii, self.audiences or ()))
        return f" its aud is {shown[:_MAX_SHOWN]}" if shown else " it has no aud"


def parse_given(text: str, source: str) -> GivenToken:
    """Return the token in `text`; white space around it is removed.

    Raises:
        NotUsableError: It is not a whole token.
    """
    found = _parse(trim(text), source)
    del text  # a traceback that prints locals prints no token
    if isinstance(found, str):
        raise NotUsableError(found)
    return found


def parse_token_file(text: str, source: str) -> GivenToken:
    """As `parse_given`, with a warning if it is no JWT: the file may be that of a secret."""
    token = parse_given(text, source)
    if token.audiences is not None:
        return token
    warning = f"{source} holds no JWT; it is sent as it is, so it must not be a secret"
    return replace(token, warnings=(warning,))


def _parse(value: str, source: str) -> GivenToken | str:
    """Return the token, or what is wrong with it."""
    from .unverified import read_unverified  # few processes need it

    if not _VISIBLE.fullmatch(value):
        return "does not hold a token: visible ASCII characters, without a space"
    try:
        header, claims = read_unverified(value)
    except ValueError:
        is_jwe = value.count(".") == _JWE_DOTS
        is_jwt = not is_jwe and value.startswith(_JWT_START[: len(value)])
        # Only the beginning of one: the file is being written.
        return "holds a part of a JWT only" if is_jwt else GivenToken(value, source)
    signature = value.rpartition(".")[2]
    if len(signature) * 3 // 4 < _SIGNATURE_BYTES.get(str(header.get("alg")), 0):
        return "holds a JWT with a part of its signature only"
    return GivenToken(value, source, _expiry(claims), _audiences(claims))


def _expiry(claims: dict[str, Any]) -> int | None:
    expiry: Any = claims.get("exp")
    is_time = type(expiry) in (int, float) and abs(expiry) < _MAX_TIME
    return math.floor(expiry) if is_time else None


def _audiences(claims: dict[str, Any]) -> tuple[str, ...]:
    given = claims.get("aud")
    several = given if isinstance(given, list) else [given]
    return tuple(one for one in several if isinstance(one, str))
