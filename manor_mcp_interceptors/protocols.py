"""The time, as something that is handed in."""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """The time, as the standard library's `time` module tells it; that module is the default."""

    def time(self) -> float:
        """Return Unix time, seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step back, from an arbitrary start."""
        ...


class _Shared:
    """What whatever the process shares is made with, from now on: a test's clock, or None."""

    clock: Clock | None = None


shared: Final = _Shared()
