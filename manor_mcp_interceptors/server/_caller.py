"""The verified caller of the call that is being served."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from ._claims import VerifiedToken

caller_var: Final[ContextVar[VerifiedToken | None]] = ContextVar(
    "manor_mcp_interceptors_caller", default=None
)


def current_caller() -> VerifiedToken | None:
    """Return the verified caller of the RPC or request that this code serves.

    None outside of a call, in an exempt method or path, and for a call that observe mode has let
    through: nobody was verified. Code that a handler runs in another thread sees the caller only
    if the context is passed on, as `asyncio.to_thread` does.
    """
    return caller_var.get()
