"""What server adapters without a verifier share. No import of PyJWT: the testing kit sets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manor_mcp_interceptors.protocols import Clock

    from ._verification import Verification


class ProcessWide:
    """The verification by the environment's settings, created on first use."""

    __slots__ = ("_clock", "_created")

    def __init__(self, clock: Clock | None = None) -> None:
        """Take the clock to verify by; None is the `time` module."""
        self._clock = clock
        self._created: dict[str, Verification] = {}

    def verification(self, create: Callable[..., Verification]) -> Verification:
        """Return the shared verification; if there is none yet, `create` it."""
        found = self._created.get("")
        # Atomic: all threads get the same one, and there is no lock that a fork could copy.
        return found or self._created.setdefault("", create(clock=self._clock))


current = ProcessWide()
"""The one in use. The testing kit replaces it and puts it back."""
