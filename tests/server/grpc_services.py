"""gRPC services that tell who their caller is: four kinds of call, sync and aio, behind a lock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from manor_mcp_interceptors.server.grpc_interceptors import current_caller

SERVICE = "test.Whoami"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def whoami() -> bytes:
    caller = current_caller()
    return b"nobody" if caller is None else caller.subject.encode()


class SyncService(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Counts the calls whose body ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        kind = handler_call_details.method.rpartition("/")[2]
        if kind not in KINDS:
            return None
        behavior = self.stream if kind.endswith("stream") else self.single
        return getattr(grpc, f"{kind}_rpc_method_handler")(lambda r, c: behavior(kind, r, c))

    def single(self, kind: str, requests: Any, context: Any) -> bytes:
        self.ran.append(kind)
        for _ in [requests] if isinstance(requests, bytes) else requests:
            pass
        return whoami()

    def stream(self, kind: str, requests: Any, context: Any) -> Iterator[bytes]:
        self.ran.append(kind)
        for _ in [requests] if isinstance(requests, bytes) else requests:
            yield whoami()


class AioService(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """The same in every way that grpc.aio lets a handler be written."""

    def __init__(self, style: str = "generator") -> None:
        self.ran: list[str] = []
        self.style = style

    def service(self, handler_call_details: Any) -> Any:
        kind = handler_call_details.method.rpartition("/")[2]
        if kind not in KINDS:
            return None
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        streams = kind.endswith("stream")
        if self.style == "sync":
            return SyncService.service(self, handler_call_details)  # type: ignore[arg-type]
        if not streams:
            return make(self.single)
        return make(self.stream if self.style == "generator" else self.written)

    single_sync = SyncService.single
    stream_sync = SyncService.stream

    async def single(self, requests: Any, context: Any) -> bytes:
        self.ran.append("single")
        if not isinstance(requests, bytes):
            async for _ in requests:
                pass
        return whoami()

    async def stream(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        self.ran.append("stream")
        if isinstance(requests, bytes):
            yield whoami()
        else:
            async for _ in requests:
                yield whoami()

    async def written(self, requests: Any, context: Any) -> None:
        async for response in self.stream(requests, context):
            await context.write(response)


class SyncInAio(AioService):
    """Plain functions, which grpc.aio runs on threads."""

    def __init__(self) -> None:
        super().__init__("sync")

    single = SyncService.single  # type: ignore[assignment]
    stream = SyncService.stream  # type: ignore[assignment]


@contextmanager
def sync_server(interceptors: Sequence[Any], *handlers: Any, workers: int = 1) -> Iterator[str]:
    """Serve on one worker thread, so that each call finds what the last one left behind."""
    server = grpc.server(ThreadPoolExecutor(workers), interceptors=list(interceptors))
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def aio_server(interceptors: Sequence[Any], *handlers: Any) -> Iterator[str]:
    """Serve on an event loop in a thread of its own."""
    ready, targets, loops, done = threading.Event(), [], [], []

    async def run() -> None:
        server = grpc.aio.server(
            migration_thread_pool=ThreadPoolExecutor(1), interceptors=interceptors
        )
        server.add_generic_rpc_handlers(handlers)
        targets.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        loops.append(asyncio.get_running_loop())
        done.append(asyncio.Event())
        ready.set()
        await done[0].wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    try:
        yield targets[0]
    finally:
        loops[0].call_soon_threadsafe(done[0].set)
        thread.join(10)


def call(
    channel: grpc.Channel,
    kind: str,
    metadata: Sequence[tuple[str, str]] = (),
    service: str = SERVICE,
) -> str:
    """Call the method of that kind; return its answer, or the status it was refused with."""
    request: Any = b"x" if kind.startswith("unary") else iter([b"x", b"y"])
    method = getattr(channel, kind if kind in KINDS else "unary_unary")
    if kind not in KINDS:
        request = b"x"
    try:
        answer = method(f"/{service}/{kind}")(request, metadata=metadata, timeout=10)
        parts = [answer] if isinstance(answer, bytes) else list(answer)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    (subject,) = set(parts)
    return str(subject.decode())
