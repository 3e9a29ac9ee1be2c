from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Settings,
    TokenUnavailableError,
    grpc_aio_authenticated_channel,
)
from tests.support import SECRET
from tests.support.eventually import eventually
from tests.support.grpc_clients import WatchedProvider, bearer
from tests.support.grpc_server import (
    KINDS,
    REQUESTS,
    GrpcServer,
    expected,
    multi_callable,
)

Body = Callable[[Any], Awaitable[None]]
BASES = {
    "unary_unary": (grpc.aio.UnaryUnaryMultiCallable, grpc.aio.UnaryUnaryCall),
    "unary_stream": (grpc.aio.UnaryStreamMultiCallable, grpc.aio.UnaryStreamCall),
    "stream_unary": (grpc.aio.StreamUnaryMultiCallable, grpc.aio.StreamUnaryCall),
    "stream_stream": (grpc.aio.StreamStreamMultiCallable, grpc.aio.StreamStreamCall),
}


class Recorder:
    """An inner channel, callable and call that record what reaches them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def later() -> str:
            return name

        def record(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self if name in KINDS else later()

        return record

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(("call", args, kwargs))
        return object()  # no call that could be watched

    async def __aenter__(self) -> Recorder:  # noqa: PYI034 - no subclasses
        self.calls.append(("enter", (), {}))
        return self

    async def __aexit__(self, *exc: object) -> bool:
        self.calls.append(("exit", exc, {}))
        return True


def run(server: GrpcServer, body: Body, **adapter: Any) -> None:
    """Run `body` with a thin channel, for ten seconds at most."""

    async def main() -> None:
        inner = grpc.aio.insecure_channel(server.target)
        async with grpc_aio_authenticated_channel(inner, **adapter) as channel:
            await asyncio.wait_for(body(channel), 10)

    asyncio.run(main())


def open_call(channel: Any, kind: str) -> Any:
    request = REQUESTS[0] if kind.startswith("unary") else iter(REQUESTS)
    return multi_callable(channel, kind)(request, timeout=10)


async def response_of(call: Any, kind: str) -> bytes:
    if kind.endswith("stream"):
        return b"".join([part async for part in call])
    response: bytes = await call
    return response


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_of_a_stub_are_passed_on_unchanged(kind: str) -> None:
    """`_registered_method` reaches the inner channel if it was given, and only then."""
    inner = Recorder()
    channel: Any = grpc_aio_authenticated_channel(inner)  # type: ignore[arg-type]
    getattr(channel, kind)("/a/b", len, request_serializer=str, _registered_method=True)
    getattr(channel, kind)("/a/b")
    assert inner.calls == [
        (kind, ("/a/b", len), {"request_serializer": str, "_registered_method": True}),
        (kind, ("/a/b",), {}),
    ]


def test_the_methods_of_the_inner_channel() -> None:
    """States, closing and the context manager are those of the inner channel."""

    async def main() -> None:
        inner = Recorder()
        channel: Any = grpc_aio_authenticated_channel(inner)  # type: ignore[arg-type]
        assert await channel.get_state(True) == "get_state"
        await channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
        await channel.channel_ready()
        await channel.close(2.0)
        async with channel as entered:
            assert entered is channel
            raise KeyError  # which the inner channel swallows
        assert [(name, args) for name, args, _ in inner.calls[:-1]] == [
            ("get_state", (True,)),
            ("wait_for_state_change", (grpc.ChannelConnectivity.IDLE,)),
            ("channel_ready", ()),
            ("close", (2.0,)),
            ("enter", ()),
        ]
        assert inner.calls[-1][1][0] is KeyError

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_is_passed_on(kind: str) -> None:
    """All five options arrive, with the token in the metadata; so does the request by its name."""

    async def main() -> None:
        inner, provider = Recorder(), WatchedProvider()
        channel: Any = grpc_aio_authenticated_channel(inner, provider=provider)  # type: ignore[arg-type]
        options: dict[str, Any] = {
            "timeout": 5.0,
            "metadata": (("a", "1"),),
            "credentials": "credentials",
            "wait_for_ready": True,
            "compression": grpc.Compression.Gzip,
        }
        name = "request" if kind.startswith("unary") else "request_iterator"
        getattr(channel, kind)("/a/b")("it", **options)
        getattr(channel, kind)("/a/b")(**{name: "it"}, **options)
        options["metadata"] = (("a", "1"), ("authorization", bearer(provider.token())))
        options["timeout"] = pytest.approx(5.0, abs=3)  # less what the provider took
        arrived = [(args, sent) for what, args, sent in inner.calls if what == "call"]
        assert arrived == [(("it",), options)] * 2

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_channel(kind: str, server: GrpcServer, provider: WatchedProvider) -> None:
    """It is one to `isinstance`, and so are its callables and calls; streams are grpc's own."""

    async def body(channel: Any) -> None:
        assert isinstance(channel, grpc.aio.Channel)
        await channel.channel_ready()
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        callable_base, call_base = BASES[kind]
        assert isinstance(multi_callable(channel, kind), callable_base)
        call = open_call(channel, kind)
        assert isinstance(call, call_base)
        assert type(call).__module__.startswith("grpc.") is (kind != "unary_unary")
        assert await response_of(call, kind) == expected(kind)

    run(server, body, provider=provider)


class SlowGate:
    """A gate that answers when the test lets it, on a thread of the package."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()

    def is_enabled(self, key: str, *, subject: str) -> bool:
        return self.may_answer.wait(10)


def test_a_slow_flag_holds_up_the_event_loop_for_a_moment_only(server: GrpcServer) -> None:
    """The last known answer is used, at first the environment's; later calls have the flag's."""
    gate = SlowGate()
    provider = MCPTokenProvider(Settings(secret=SECRET, recheck_seconds=0), gate=gate)

    async def body(channel: Any) -> None:
        started = time.monotonic()
        assert await open_call(channel, "unary_unary") == REQUESTS[0]
        assert time.monotonic() - started < 1
        gate.may_answer.set()
        assert await asyncio.to_thread(eventually, lambda: provider.token() is not None)
        assert await open_call(channel, "unary_unary") == REQUESTS[0]

    run(server, body, provider=provider)
    assert server.authorization == [[], [bearer(provider.token())]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_without_a_required_token(kind: str, server: GrpcServer) -> None:
    """It is a failed call of its kind, so that `gather` and callbacks work with it."""

    async def body(channel: Any) -> None:
        call = open_call(channel, kind)
        assert issubclass(type(call), BASES[kind][1])
        assert not call.cancel()
        assert call.time_remaining() is None
        assert await call.debug_error_string() is None
        asked = [call.wait_for_connection(), response_of(call, kind)]
        if kind.endswith("stream"):
            asked.append(call.read())
        if kind.startswith("stream"):
            asked.append(call.write(b""))
            await call.done_writing()
        errors = await asyncio.gather(*asked, return_exceptions=True)
        kinds = (TokenUnavailableError, asyncio.InvalidStateError)
        assert all(isinstance(error, kinds) for error in errors)

    run(server, body, provider=WatchedProvider(on=False), required=True)
    assert server.calls == []


def test_a_call_without_an_event_loop(server: GrpcServer, provider: WatchedProvider) -> None:
    """A call may be made before the loop runs, as in grpc."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # grpc looks for it there

    async def make() -> Any:
        return grpc_aio_authenticated_channel(
            grpc.aio.insecure_channel(server.target), provider=provider
        )

    async def wait(call: Any) -> Any:
        return await call

    channel = loop.run_until_complete(make())
    call = open_call(channel, "unary_unary")
    assert loop.run_until_complete(wait(call)) == REQUESTS[0]
    loop.run_until_complete(channel.close())
    loop.close()
    asyncio.set_event_loop(None)
    assert server.authorization == [[bearer(provider.token())]]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_complete_call_is_returned_unchanged(
    kind: str, provider: WatchedProvider
) -> None:
    """The channel of another library may answer with any object."""
    answer = object()
    inner = SimpleNamespace(**{kind: lambda _: lambda *_, **__: answer})
    channel: Any = grpc_aio_authenticated_channel(inner, provider=provider)  # type: ignore[arg-type]
    assert getattr(channel, kind)("/a/b")(b"") is answer
