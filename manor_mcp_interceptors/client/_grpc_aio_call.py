"""Calls of a `grpc.aio` channel that have no inner call yet, or may get a second one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from functools import partial
from time import monotonic
from typing import Any

from grpc import StatusCode, aio

from ._grpc_aio_ended import EndedCall
from ._grpc_refusal import UNAUTHENTICATED, code_of_ended
from ._grpc_retry import run

Coming = Coroutine[Any, Any, Any]


class PendingCall:
    """One call to its holder: the inner one that is there, that comes, or that comes after it.

    While `_coming` runs there is no inner call, or one that was refused; what is asked then is
    answered by the one that it brings. Whether a call was refused is seen when somebody looks.
    """

    _coming: asyncio.Task[Any] | None = None
    _until: float | None = None
    _callbacks: list[Callable[[Any], None]] | None = None

    def __init__(self, call: Any, refused: Callable[..., Coming] | None = None, *sent: Any) -> None:
        """Take the inner call, and what a refusal of it leads to.

        Args:
            call: The inner call; None: `bring` is called next.
            refused: Returns what brings a second call, or None: the refusal stands.
            *sent: What `refused` is called with.
        """
        self._call = call
        self._refused = refused
        self._sent = sent

    def bring(self, coming: Coming, timeout: float | None = None) -> PendingCall:
        """Have `coming` bring the inner call, or None: the one that is there stays."""
        self._until = None if timeout is None else monotonic() + timeout
        self._coming = asyncio.get_running_loop().create_task(coming)
        self._coming.add_done_callback(self._brought)
        return self

    def _brought(self, task: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        call = EndedCall.of(error) if error is not None else task.result() or self._call
        if task is self._coming:
            self._coming = None
            self._call = call
            self._look()
            if self._callbacks and self._coming is None:
                call.add_done_callback(self._ended)
        else:  # the call has been cancelled meanwhile
            call.cancel()

    def _ended(self, call: Any) -> None:
        refused, self._refused = self._refused, None
        if refused is not None and code_of_ended(call) is UNAUTHENTICATED:
            coming = refused(*self._sent)
            try:
                self.bring(coming)
            except RuntimeError:  # no loop runs any more: the refusal stands
                coming.close()
            else:
                return
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            run(partial(callback, self))

    def _look(self) -> None:
        """See whether the inner call has ended, and how."""
        if self._coming is None and self._call.done():
            self._ended(self._call)

    async def _inner(self) -> Any:
        """Wait for the inner call, without cancelling what brings it."""
        while self._coming is not None:
            await asyncio.wait((self._coming,))
        return self._call

    async def _inner_or_cancel(self) -> Any:
        """As `_inner`; whoever gives up waiting for an answer gives up the call, as in grpc."""
        try:
            return await self._inner()
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _last(self) -> Any:
        """Wait for the inner call whose outcome counts."""
        call = await self._inner()
        if self._refused is not None:
            await call.code()
            self._look()
            call = await self._inner()
        return call

    def cancel(self) -> bool:
        coming, self._coming = self._coming, None
        if coming is None:
            return bool(self._call.cancel())
        coming.cancel()
        self._call = EndedCall.of(asyncio.CancelledError())
        self._ended(self._call)
        return True

    def cancelled(self) -> bool:
        return self._coming is None and bool(self._call.cancelled())

    def done(self) -> bool:
        self._look()
        return self._coming is None and bool(self._call.done())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self.done():
            callback(self)
        elif self._callbacks:
            self._callbacks.append(callback)
        else:
            self._callbacks = [callback]
            if self._coming is None:
                self._call.add_done_callback(self._ended)

    def time_remaining(self) -> float | None:
        if self._call is not None:
            return self._call.time_remaining()  # type: ignore[no-any-return]
        return None if self._until is None else max(self._until - monotonic(), 0)

    async def initial_metadata(self) -> Any:
        return await (await self._last()).initial_metadata()

    async def trailing_metadata(self) -> Any:
        return await (await self._last()).trailing_metadata()

    async def code(self) -> StatusCode:
        code: StatusCode = await (await self._last()).code()
        return code

    async def details(self) -> Any:
        return await (await self._last()).details()

    async def debug_error_string(self) -> Any:
        return await (await self._last()).debug_error_string()

    async def wait_for_connection(self) -> None:
        call = await self._inner_or_cancel()
        try:
            await call.wait_for_connection()
        except aio.AioRpcError:
            self._look()
            again = await self._inner_or_cancel()
            if again is call:
                raise
            await again.wait_for_connection()


class PendingResponse(PendingCall):
    """A call with one response."""

    def __await__(self) -> Generator[Any, None, Any]:
        while True:
            if self._coming is not None:
                yield from self._inner_or_cancel().__await__()
            call = self._call
            try:
                return (yield from call.__await__())
            except aio.AioRpcError:
                self._look()
                if self._coming is None and self._call is call:
                    raise


class PendingResponses(PendingCall):
    """A call with a stream of responses."""

    async def _responses(self) -> AsyncIterator[Any]:
        async for response in await self._inner_or_cancel():
            yield response

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._responses() if self._call is None else self._call.__aiter__()

    async def read(self) -> Any:
        return await (await self._inner_or_cancel()).read()


class PendingRequests(PendingCall):
    """A call with a stream of requests."""

    async def write(self, request: Any) -> None:
        await (await self._inner_or_cancel()).write(request)

    async def done_writing(self) -> None:
        await (await self._inner_or_cancel()).done_writing()


class UnaryUnaryCall(PendingResponse, aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """A call of this kind."""


class UnaryStreamCall(PendingResponses, aio.UnaryStreamCall):  # type: ignore[type-arg]
    """A call of this kind."""


class StreamUnaryCall(PendingResponse, PendingRequests, aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A call of this kind."""


class StreamStreamCall(PendingResponses, PendingRequests, aio.StreamStreamCall):  # type: ignore[type-arg]
    """A call of this kind."""
