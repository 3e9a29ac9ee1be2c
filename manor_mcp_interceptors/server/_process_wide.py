"""The state that verifiers of this process share. It imports nothing, so that tests may set it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from manor_mcp_interceptors.protocols import Clock

    from ._verification import Judge


class _ProcessWide:
    """The verification by the environment, made when it is first needed."""

    def __init__(self) -> None:
        self.clock: Clock | None = None
        """What it is made with: a test's clock; None is the `time` module."""
        self.verification: Judge | None = None


process_wide: Final = _ProcessWide()
