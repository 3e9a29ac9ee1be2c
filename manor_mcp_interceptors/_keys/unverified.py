"""Read the header and claims of a token without verifying it."""

from __future__ import annotations

import base64
import json
from typing import Any


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


def _object(part: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        # The text holds no part of it: it may be a secret, pasted by mistake.
        raise ValueError(f"not a JWT: its {name} is no JSON object in base64url")  # noqa: TRY004
    return value
