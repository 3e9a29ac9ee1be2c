"""Calls of a `grpc.aio` channel that may be sent a second time, or that were never sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from grpc import StatusCode, aio

from ._grpc_refusal import aio_was_refused
from ._grpc_retry import Callbacks, run_all

Again = Callable[[], Coroutine[Any, Any, Any]]


def retrying(call: Any, again: Again) -> Any:
    """Return a call that may be repeated; another interceptor's object as it is."""
    return RetryingCall(call, again) if isinstance(call, aio.UnaryUnaryCall) else call


class RetryingCall(aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """One call to its holder, whether it takes one try or two.

    A refusal is noticed, and the second try begins, when the call is awaited, asked about its end,
    or has a done callback.
    """

    _channel = None
    """Before 1.83, `close` of grpc's channel raises if a task runs in a call without it."""

    def __init__(self, first: Any, again: Again) -> None:
        """Take the first try.

        Args:
            first: A call of this kind.
            again: Returns the second try, or None if the refusal stands.
        """
        self._call = first  # the latest try
        self._again: Again | None = again
        self._renewal: asyncio.Task[None] | None = None
        self._callbacks: Callbacks = []

    def _look(self) -> None:
        """Begin the second try if the first has ended refused."""
        if self._again is None or not self._call.done():
            return
        again, self._again = self._again, None
        if aio_was_refused(self._call):
            renewal = self._renew(again)
            try:
                self._renewal = asyncio.get_running_loop().create_task(renewal)
            except RuntimeError:  # no event loop runs any more: the refusal stands
                renewal.close()

    async def _renew(self, again: Again) -> None:
        try:
            second = await again()
        except asyncio.CancelledError:
            self.cancel()
            raise
        except Exception:  # the channel was closed, for example: the refusal stands
            second = None
        if self._renewal is not None:
            self._continue_with(second or self._call)
        elif second is not None:  # the call was cancelled meanwhile
            second.cancel()

    def _continue_with(self, call: Any) -> None:
        self._renewal = None
        self._call = call
        self._call_back()

    def _call_back(self, _: Any = None) -> None:
        """Run the callbacks if the call has ended, else when it ends."""
        if not self._callbacks:
            return
        if self.done():
            run_all(self._callbacks)
        elif self._renewal is None:
            self._call.add_done_callback(self._call_back)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(partial(callback, self))
        if len(self._callbacks) == 1:
            self._call_back()

    def cancel(self) -> bool:
        renewal = self._renewal
        if renewal is None:
            return bool(self._call.cancel())
        self._continue_with(EndedCall(asyncio.CancelledError()))
        renewal.cancel()
        return True

    def cancelled(self) -> bool:
        return self._renewal is None and bool(self._call.cancelled())

    def done(self) -> bool:
        self._look()
        return self._renewal is None and bool(self._call.done())

    def time_remaining(self) -> Any:
        return self._call.time_remaining()

    def __await__(self) -> Generator[Any, None, Any]:
        call = self._call
        try:
            return (yield from call.__await__())
        except aio.AioRpcError:
            second = yield from self._after(call).__await__()
            if second is None:
                raise
        return (yield from second.__await__())

    async def wait_for_connection(self) -> None:
        call = self._call
        try:
            await call.wait_for_connection()
        except aio.AioRpcError:
            second = await self._after(call)
            if second is None:
                raise
            await second.wait_for_connection()

    async def _after(self, call: Any) -> Any:
        """Return the try that follows `call`, which has failed; None if there is none.

        If the task that waits is cancelled, so is the call, as in grpc.
        """
        self._look()
        try:
            await self._renewed()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return None if self._call is call else self._call

    async def _renewed(self) -> None:
        if self._renewal is not None:
            await asyncio.wait((self._renewal,))

    async def _last(self) -> Any:
        """Wait for the end; return the try whose outcome counts."""
        if self._again is not None:
            await self._call.code()
            self._look()
        await self._renewed()
        return self._call

    async def initial_metadata(self) -> Any:
        return await (await self._last()).initial_metadata()

    async def trailing_metadata(self) -> Any:
        return await (await self._last()).trailing_metadata()

    async def code(self) -> Any:
        return await (await self._last()).code()

    async def details(self) -> Any:
        return await (await self._last()).details()

    async def debug_error_string(self) -> Any:
        return await (await self._last()).debug_error_string()


class EndedCall(
    aio.UnaryUnaryCall,  # type: ignore[type-arg]
    aio.UnaryStreamCall,  # type: ignore[type-arg]
    aio.StreamUnaryCall,  # type: ignore[type-arg]
    aio.StreamStreamCall,  # type: ignore[type-arg]
):
    """A call, of any kind, that ended before it was sent."""

    def __init__(self, error: aio.AioRpcError | asyncio.CancelledError) -> None:
        """Take what awaiting the call raises."""
        self._error = error
        self._status = error if isinstance(error, aio.AioRpcError) else _cancelled()

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

    async def initial_metadata(self) -> Any:
        return self._status.initial_metadata()

    async def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata()

    async def code(self) -> StatusCode:
        return self._status.code()

    async def details(self) -> Any:
        return self._status.details()

    async def debug_error_string(self) -> Any:
        return self._status.debug_error_string()

    async def wait_for_connection(self) -> None:
        raise self._error

    def __await__(self) -> Generator[Any, None, Any]:
        raise self._error
        yield

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        raise self._error

    async def read(self) -> Any:
        raise self._error

    async def write(self, request: Any) -> None:  # noqa: ARG002 - it is not sent
        raise asyncio.InvalidStateError("RPC already finished.")

    async def done_writing(self) -> None:
        return


def _cancelled() -> aio.AioRpcError:
    details = "Locally cancelled by application!"
    return aio.AioRpcError(StatusCode.CANCELLED, aio.Metadata(), aio.Metadata(), details, "")
