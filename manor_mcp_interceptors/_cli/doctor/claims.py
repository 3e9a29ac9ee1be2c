"""Read the header and claims of a token without verifying it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

_TIMES: Final = {"iat", "exp", "nbf"}


def read_unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of `token`; its signature is not checked.

    Raises:
        ValueError: It is not a compact JWS with two JSON objects.
    """
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - RFC 7515, section 3.1
        raise ValueError("not a JWT: a JWT has three parts, with a dot between them")
    header, claims = _object(parts[0], "header"), _object(parts[1], "claims")
    return header, claims


def readable(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return `claims` with each time also as a date."""
    return {name: _time(value) if name in _TIMES else value for name, value in claims.items()}


def _time(value: Any) -> Any:
    try:
        return f"{value} ({datetime.fromtimestamp(value, timezone.utc):%Y-%m-%d %H:%M:%S} UTC)"
    except (TypeError, ValueError, OverflowError, OSError):  # not a time
        return value


def _object(part: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        # The text holds no part of it: it may be a secret, pasted by mistake.
        raise ValueError(f"not a JWT: its {name} is no JSON object in base64url")  # noqa: TRY004
    return value
