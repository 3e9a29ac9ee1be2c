"""Show the claims of a token to people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

_TIMES: Final = {"iat", "exp", "nbf"}


def readable(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return `claims` with each time also as a date."""
    return {name: _time(value) if name in _TIMES else value for name, value in claims.items()}


def _time(value: Any) -> Any:
    try:
        return f"{value} ({datetime.fromtimestamp(value, timezone.utc):%Y-%m-%d %H:%M:%S} UTC)"
    except (TypeError, ValueError, OverflowError, OSError):  # not a time
        return value
