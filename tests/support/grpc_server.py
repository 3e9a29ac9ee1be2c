"""A real gRPC server with one method of each kind, and every way to call it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

SERVICE = "/test.Echo/"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
REQUESTS = (b"one", b"two", b"three")


@dataclass
class Seen:
    """What the server was sent."""

    kind: str
    metadata: list[tuple[str, str | bytes]]
    time_remaining: float | None
    requests: list[bytes]

    @property
    def authorization(self) -> list[str | bytes]:
        """Every `authorization` value, in order."""
        return [value for key, value in self.metadata if key == "authorization"]


class GrpcServer(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Echoes on methods named after the call kinds, and records what it sees.

    A method's name may carry a suffix: ``/test.Echo/unary_unary.slow`` is another method of the
    same kind.
    """

    def __init__(
        self,
        credentials: grpc.ServerCredentials | None = None,
        *,
        interceptors: Sequence[grpc.ServerInterceptor[Any, Any]] = (),
        port: int = 0,
    ) -> None:
        self.calls: list[Seen] = []
        self.refuses: Callable[[str | bytes | None], bool] = lambda value: False
        self.refuse_after = 0.0
        self.open = threading.Event()
        """Cleared: a call sends its first answer and its initial metadata, and then hangs."""
        self.open.set()
        self.hanging = threading.Event()
        """Set when a call hangs."""
        self.cancelled = threading.Event()
        """Set when a call ended while it was hanging."""
        self._server = grpc.server(futures.ThreadPoolExecutor(60), interceptors=list(interceptors))
        self._server.add_generic_rpc_handlers((self,))
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self.target = f"127.0.0.1:{self.port}"

    def __enter__(self) -> GrpcServer:  # noqa: PYI034 - Self is not in 3.10
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.open.set()
        self._server.stop(None).wait()

    def service(self, handler_call_details: Any) -> Any:
        """Answer for any method named after a kind."""
        kind = handler_call_details.method.removeprefix(SERVICE).partition(".")[0]
        if kind not in KINDS:
            return None
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        streams = kind.endswith("stream")
        return make((self._stream if streams else self._single)(kind))

    def _single(self, kind: str) -> Callable[[Any, Any], bytes]:
        return lambda requests, context: b"".join(self._serve(kind, requests, context))

    def _stream(self, kind: str) -> Callable[[Any, Any], Iterator[bytes]]:
        return lambda requests, context: self._serve(kind, requests, context)

    def _serve(self, kind: str, requests: Any, context: Any) -> Iterator[bytes]:
        metadata = [(key, value) for key, value in context.invocation_metadata()]
        seen = Seen(kind, metadata, context.time_remaining(), [])
        self.calls.append(seen)
        if self.refuses(next(iter(seen.authorization), None)):
            # Read to the end first: grpc.aio reports a call that ends while it is written to as
            # INTERNAL, at times, whatever the server said.
            seen.requests.extend([requests] if kind.startswith("unary") else requests)
            time.sleep(self.refuse_after)
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        context.send_initial_metadata((("initial", "here"),))
        for request in (requests,) if kind.startswith("unary") else requests:
            seen.requests.append(request)
            yield request
            self._hang(context)

    def _hang(self, context: Any) -> None:
        ended = threading.Event()
        if self.open.is_set():
            return
        self.hanging.set()
        if not context.add_callback(ended.set):
            ended.set()
        while not self.open.is_set() and not self.cancelled.is_set():
            if ended.wait(0.01):
                self.cancelled.set()

    @property
    def authorization(self) -> list[list[str | bytes]]:
        """The `authorization` values of each call, in order."""
        return [seen.authorization for seen in self.calls]


def multi_callable(channel: Any, kind: str, method: str | None = None) -> Any:
    """Return the channel's callable for the method of that kind."""
    return getattr(channel, kind)(SERVICE + (method or kind))


Options = Any
SyncCall = Callable[..., bytes]


def _plain(kind: str) -> SyncCall:
    return lambda channel, **options: _bytes(
        multi_callable(channel, kind)(_request(kind), **options)
    )


def _with_call(kind: str) -> SyncCall:
    def call(channel: Any, **options: Any) -> bytes:
        response, call = multi_callable(channel, kind).with_call(_request(kind), **options)
        assert call.code() is grpc.StatusCode.OK
        assert ("initial", "here") in [tuple(entry) for entry in call.initial_metadata()]
        return _bytes(response)

    return call


def _future(kind: str) -> SyncCall:
    return lambda channel, **options: _bytes(
        multi_callable(channel, kind).future(_request(kind), **options).result(10)
    )


def _request(kind: str) -> Any:
    return REQUESTS[0] if kind.startswith("unary") else iter(REQUESTS)


def _bytes(response: bytes | Iterable[bytes]) -> bytes:
    return response if isinstance(response, bytes) else b"".join(response)


SYNC_CALLS: dict[str, SyncCall] = {
    **{kind: _plain(kind) for kind in KINDS},
    **{f"{kind}.with_call": _with_call(kind) for kind in ("unary_unary", "stream_unary")},
    **{f"{kind}.future": _future(kind) for kind in ("unary_unary", "stream_unary")},
}
"""Every way to call each kind on a sync channel: takes the channel and options of the call."""


async def _aio_single(kind: str, channel: Any, **options: Any) -> bytes:
    response: bytes = await multi_callable(channel, kind)(_request(kind), **options)
    return response


async def _aio_iterated(kind: str, channel: Any, **options: Any) -> bytes:
    call = multi_callable(channel, kind)(_request(kind), **options)
    return b"".join([part async for part in call])


async def _aio_written(kind: str, channel: Any, **options: Any) -> bytes:
    call = multi_callable(channel, kind)(**options)
    try:
        for request in REQUESTS:
            await call.write(request)
        await call.done_writing()
    except asyncio.InvalidStateError:  # the call has ended; the call itself says how
        pass
    if kind == "stream_unary":
        response: bytes = await call
        return response
    received = []
    with suppress(StopAsyncIteration):  # how an intercepted call of older grpcio ends
        while (part := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            received.append(part)
    return b"".join(received)


async def _aio_generated(kind: str, channel: Any, **options: Any) -> bytes:
    async def requests() -> AsyncIterator[bytes]:
        for request in REQUESTS:
            yield request

    response: bytes = await multi_callable(channel, kind)(requests(), **options)
    return response


def _of(call: Callable[..., Awaitable[bytes]], kind: str) -> Callable[..., Awaitable[bytes]]:
    return lambda channel, **options: call(kind, channel, **options)


AIO_CALLS: dict[str, Callable[..., Awaitable[bytes]]] = {
    "unary_unary": _of(_aio_single, "unary_unary"),
    "unary_stream": _of(_aio_iterated, "unary_stream"),
    "stream_unary": _of(_aio_single, "stream_unary"),
    "stream_unary.write": _of(_aio_written, "stream_unary"),
    "stream_unary.async_generator": _of(_aio_generated, "stream_unary"),
    "stream_stream": _of(_aio_iterated, "stream_stream"),
    "stream_stream.write": _of(_aio_written, "stream_stream"),
}
"""The same on an aio channel."""


def expected(name: str) -> bytes:
    """Return what a call of that name answers."""
    return REQUESTS[0] if name.startswith("unary") else b"".join(REQUESTS)
