"""Who calls, readable in a gRPC handler."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from .verifier import VerifiedToken

__all__ = ["current_caller"]

caller_var: Final[ContextVar[VerifiedToken | None]] = ContextVar(
    "manor_mcp_interceptors_caller", default=None
)


def current_caller() -> VerifiedToken | None:
    """Return the verified caller of the RPC that this code serves.

    None outside of an RPC, and in a method that is exempt. Code that a handler runs in a thread
    of its own sees it where the context is handed on, as `asyncio.to_thread` does.
    """
    return caller_var.get()
