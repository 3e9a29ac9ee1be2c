"""A call of a `grpc.aio` channel that ended before it had begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

from grpc import StatusCode, aio


class EndedCall:
    """Answers for a call that was cancelled, or failed, before there was one."""

    def __init__(self, error: BaseException, status: Any) -> None:
        self._error = error  # what awaiting the call raises
        self._status = status  # what answers for its code and details

    @classmethod
    def of(cls, error: BaseException) -> EndedCall:
        """Return a call that ended with `error`, by which its holder may have cancelled it."""
        status: Any = error
        if isinstance(error, asyncio.CancelledError):
            none, details = aio.Metadata(), "Locally cancelled by application!"
            status = aio.AioRpcError(StatusCode.CANCELLED, none, none, details, "")
        return cls(error, status)

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    def done(self) -> bool:
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)

    def time_remaining(self) -> float | None:
        return None

    def _answer(self, question: str) -> Any:
        if not isinstance(self._status, aio.AioRpcError):  # what no status can tell of
            raise self._error
        return getattr(self._status, question)()

    async def initial_metadata(self) -> Any:
        return self._answer("initial_metadata")

    async def trailing_metadata(self) -> Any:
        return self._answer("trailing_metadata")

    async def code(self) -> StatusCode:
        code: StatusCode = self._answer("code")
        return code

    async def details(self) -> Any:
        return self._answer("details")

    async def debug_error_string(self) -> Any:
        return self._answer("debug_error_string")

    async def wait_for_connection(self) -> None:
        raise self._error

    def __await__(self) -> Generator[Any, None, Any]:
        raise self._error
        yield

    async def read(self) -> Any:
        raise self._error

    async def write(self, request: Any) -> None:  # noqa: ARG002 - it is sent nowhere
        raise asyncio.InvalidStateError("RPC already finished.")

    async def done_writing(self) -> None:
        return

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        raise self._error
