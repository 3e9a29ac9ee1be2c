"""The bearer scheme of RFC 6750: one header name, one way to write it, one way to read it."""

from __future__ import annotations

import re
from typing import Final

HEADER_NAME: Final = "Authorization"
METADATA_KEY: Final = "authorization"
"""gRPC metadata keys must be lower case; grpc refuses any other, at times by hanging."""

_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*)", re.ASCII)


class HiddenBearer(str):
    """An ``Authorization`` value that is sent as any other text; its `repr` hides the token.

    Errors show it: before 1.81, grpcio's for another, malformed entry lists a call's whole
    metadata; aiohttp's have the headers of the request (zalando-incubator/kopf#305).
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'Bearer <token>'"


def format_bearer(token: str) -> str:
    """Return the ``Authorization`` value that carries `token`."""
    return f"Bearer {token}"


def parse_bearer(value: str) -> str | None:
    """Return the token in an ``Authorization`` value, or None if it is not a bearer token.

    The scheme is case-insensitive (RFC 9110, section 11.1); the token is RFC 6750's
    ``b64token``, so nothing with white space, a comma or a non-ASCII character in it passes.
    """
    match = _BEARER.fullmatch(value)
    return match[1] if match else None
