"""Small stand-ins that many tests use: a clock, a gate, a secret that is none."""

from __future__ import annotations

import jwt

SECRET = "not-a-secret-" + "0123456789" * 3
"""43 bytes, long enough for HS256; it opens nothing."""
OTHER_SECRET = "another-one--" + "9876543210" * 3
"""As long as SECRET."""
FLAG = "manor_search_enable_api_token_v1"
AUDIENCE = "service-search-mcp"


class FakeClock:
    """A wall clock and a monotonic clock that move only when told to."""

    def __init__(self, wall: float = 1_800_000_000.25, monotonic: float = 1_000.0) -> None:
        self.wall = wall
        self.mono = monotonic

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def advance(self, seconds: float) -> None:
        """Let time pass, by both clocks."""
        self.wall += seconds
        self.mono += seconds

    def set_wall(self, seconds: float) -> None:
        """Step the wall clock by `seconds`, as an operator or NTP would."""
        self.wall += seconds


class StaticGate:
    """A gate that answers what it is told to, on the caller's thread."""

    blocking = False

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        self.asked: list[tuple[str, str]] = []

    def is_enabled(self, key: str, *, subject: str) -> bool:
        self.asked.append((key, subject))
        return self.on


def legacy_check(token: str, secret: str = SECRET, audience: str = AUDIENCE) -> dict[str, object]:
    """Check a token as services do today; raises what PyJWT raises."""
    claims: dict[str, object] = jwt.decode(token, secret, algorithms=["HS256"], audience=audience)
    return claims


def signed_with(token: str, secret: str) -> bool:
    """Return whether `secret` signed the token, whatever the time."""
    try:
        jwt.api_jws.decode(token, secret, algorithms=["HS256"])
    except jwt.InvalidSignatureError:
        return False
    return True
