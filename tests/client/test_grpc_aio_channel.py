from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable, Callable
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
from tests.support.grpc_clients import WatchedProvider, bearer
from tests.support.grpc_server import (
    AIO_CALLS,
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


class SlowGate:
    """A gate that answers when the test lets it, in a thread of the library's."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def is_enabled(self, key: str, *, subject: str) -> bool:
        self.asked.set()
        return self.go_on.wait(10)


class Recorder:
    """An inner channel, callable and call that records what reaches it."""

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


async def answer_of(call: Any, kind: str) -> bytes:
    if kind.endswith("stream"):
        return b"".join([part async for part in call])
    response: bytes = await call
    return response


async def reaches(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 5)


def slow(**settings: Any) -> tuple[SlowGate, dict[str, Any]]:
    gate = SlowGate()
    return gate, {"provider": MCPTokenProvider(Settings(secret=SECRET, **settings), gate=gate)}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_stub_passes_goes_on_as_it_is(kind: str) -> None:
    """`_registered_method` reaches a channel that is given it, and no other."""
    inner = Recorder()
    channel: Any = grpc_aio_authenticated_channel(inner)  # type: ignore[arg-type]
    getattr(channel, kind)("/a/b", len, request_serializer=str, _registered_method=True)
    getattr(channel, kind)("/a/b")
    assert inner.calls == [
        (kind, ("/a/b", len), {"request_serializer": str, "_registered_method": True}),
        (kind, ("/a/b",), {}),
    ]


def test_the_channels_own_methods() -> None:
    """States, closing and the context manager are the inner channel's, its answer too."""

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
@pytest.mark.parametrize("leased", [True, False])
def test_every_option_goes_on(kind: str, leased: bool) -> None:
    """All five options arrive, with the token in the metadata."""

    async def main() -> None:
        inner, provider = Recorder(), WatchedProvider()
        if leased:
            provider.token()
        channel: Any = grpc_aio_authenticated_channel(inner, provider=provider)  # type: ignore[arg-type]
        options = {
            "timeout": 5.0,
            "metadata": (("a", "1"),),
            "credentials": "credentials",
            "wait_for_ready": True,
            "compression": grpc.Compression.Gzip,
        }
        getattr(channel, kind)("/a/b")("it", **options)
        await asyncio.sleep(0)
        arrived = next(call for call in inner.calls if call[0] == "call")
        options["metadata"] = (("a", "1"), ("authorization", bearer(provider.token())))
        assert arrived[1] == ("it",)
        assert {**arrived[2], "timeout": 5.0} == options
        assert 4 < arrived[2]["timeout"] <= 5

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leased", [True, False])
def test_it_is_a_channel(
    kind: str, leased: bool, server: GrpcServer, provider: WatchedProvider
) -> None:
    """It is one to `isinstance`, and so are its callables and their calls."""
    if leased:
        provider.token()

    async def body(channel: Any) -> None:
        assert isinstance(channel, grpc.aio.Channel)
        await channel.channel_ready()
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        callable_base, call_base = BASES[kind]
        assert isinstance(multi_callable(channel, kind), callable_base)
        call = open_call(channel, kind)
        assert isinstance(call, call_base)
        if leased and kind != "unary_unary":
            assert type(call).__module__.startswith("grpc.")
        assert await answer_of(call, kind) == expected(kind)

    run(server, body, provider=provider)


@pytest.mark.parametrize("name", AIO_CALLS)
def test_a_slow_flag_holds_up_no_loop(name: str, server: GrpcServer) -> None:
    """While a flag's backend takes its time, the loop runs; then the token goes out."""
    gate, adapter = slow()

    async def body(channel: Any) -> None:
        call = asyncio.ensure_future(AIO_CALLS[name](channel, timeout=10))
        await reaches(gate.asked)  # which takes a loop that runs
        assert not server.calls
        gate.go_on.set()
        assert await call == expected(name)

    run(server, body, **adapter)
    assert server.authorization == [[bearer(adapter["provider"].token())]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_has_not_begun(kind: str, server: GrpcServer) -> None:
    """It is neither done nor cancelled, has its time, and tells who asked when it ends."""
    gate, adapter = slow()

    async def body(channel: Any) -> None:
        call = open_call(channel, kind)
        called: list[Any] = []
        call.add_done_callback(called.append)
        assert not call.done()
        assert not call.cancelled()
        assert 9 < call.time_remaining() <= 10
        waiting = [asyncio.ensure_future(ask()) for ask in (call.code, call.initial_metadata)]
        impatient = asyncio.ensure_future(call.code())
        await reaches(gate.asked)
        impatient.cancel()  # a question, and not the call
        gate.go_on.set()
        assert await answer_of(call, kind) == expected(kind)
        assert await waiting[0] is grpc.StatusCode.OK
        assert ("initial", "here") in list(await waiting[1])
        assert called == [call]
        assert call.done()
        assert 0 < call.time_remaining() <= 10

    run(server, body, **adapter)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["call", "task"])
def test_cancelled_before_it_began(kind: str, by: str, server: GrpcServer) -> None:
    """Cancelling a call that waits for the flag is final: nothing is ever sent."""
    gate, adapter = slow()

    async def body(channel: Any) -> None:
        call = open_call(channel, kind)
        called: list[Any] = []
        call.add_done_callback(called.append)
        waiting = asyncio.ensure_future(answer_of(call, kind))
        await reaches(gate.asked)
        assert call.cancel() if by == "call" else waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.go_on.set()
        assert not call.cancel()
        assert call.cancelled()
        assert call.done()
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert "cancelled" in await call.details()
        assert list(await call.initial_metadata()) == list(await call.trailing_metadata()) == []
        assert await call.debug_error_string() is not None
        assert called == [call]
        if kind.startswith("stream"):
            await call.done_writing()
            with pytest.raises(asyncio.InvalidStateError):
                await call.write(b"")

    run(server, body, **adapter)
    assert server.calls == []


def test_a_call_without_a_loop(server: GrpcServer, provider: WatchedProvider) -> None:
    """Where no loop runs, none is held up: the call is made at once."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # where grpc looks for it

    async def make() -> Any:
        return grpc_aio_authenticated_channel(
            grpc.aio.insecure_channel(server.target), provider=provider
        )

    async def wait(call: Any) -> Any:
        return await call

    channel = loop.run_until_complete(make())
    call = open_call(channel, "unary_unary")
    assert loop.run_until_complete(wait(call)) == REQUESTS[0]
    refused = grpc_aio_authenticated_channel(
        channel, provider=WatchedProvider(on=False), required=True
    )
    with pytest.raises(TokenUnavailableError):
        loop.run_until_complete(wait(open_call(refused, "unary_unary")))
    loop.run_until_complete(channel.close())
    loop.close()
    asyncio.set_event_loop(None)
    assert server.authorization == [[bearer(provider.token())]]


@pytest.mark.parametrize("ask", ["code", "details", "initial_metadata", "wait_for_connection"])
def test_whoever_asks_hears_of_the_second_try(
    ask: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A refused call is made again whether or not it is awaited; all answers are the second's."""
    provider.grow_stale()
    old = provider.token()  # the lease runs, again
    server.refuses = lambda value: value == bearer(old)

    async def body(channel: Any) -> None:
        call = open_call(channel, "unary_unary")
        ended = asyncio.Event()
        call.add_done_callback(lambda _: ended.set())
        await getattr(call, ask)()
        await ended.wait()
        assert await call.code() is grpc.StatusCode.OK
        assert await call == REQUESTS[0]

    run(server, body, provider=provider)
    assert server.authorization == [[bearer(old)], [bearer(provider.token())]]


async def by_callback(call: Any) -> None:
    ended = asyncio.Event()
    call.add_done_callback(lambda _: ended.set())
    await ended.wait()


async def by_asking(call: Any) -> None:
    while not call.done():  # noqa: ASYNC110 - what `done` says is the question
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "look",
    [
        by_callback,
        by_asking,
        lambda call: call.code(),
        lambda call: call.details(),
        lambda call: call.initial_metadata(),
        lambda call: call.trailing_metadata(),
        lambda call: call,
    ],
)
def test_whoever_looks_at_a_refused_call_sees_the_second_try(
    look: Any, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A refusal is seen when somebody looks, whichever way; what they see is what came of it."""
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)

    async def body(channel: Any) -> None:
        call = open_call(channel, "unary_unary")
        await look(call)
        assert await call.code() is grpc.StatusCode.OK
        assert await call == expected("unary_unary")

    run(server, body, provider=provider)
    assert server.authorization == [[bearer(old)], [bearer(provider.token())]]


def test_cancelled_while_its_token_is_renewed(server: GrpcServer) -> None:
    """A refused call can be cancelled before its second try."""
    gate, adapter = slow(recheck_seconds=1000)
    provider = adapter["provider"]
    gate.go_on.set()
    token = provider.token()
    gate.asked.clear()
    gate.go_on.clear()
    server.refuses = lambda value: value == bearer(token)
    ended: list[Any] = []

    async def body(channel: Any) -> None:
        call = open_call(channel, "unary_unary")
        call.add_done_callback(ended.append)
        await reaches(gate.asked)
        assert not call.done()
        assert call.cancel()
        assert ended == [call]
        assert call.cancelled()
        assert await call.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.go_on.set()

    run(server, body, provider=provider)
    assert len(server.calls) == 1


def test_a_channel_closed_meanwhile(server: GrpcServer) -> None:
    """A call that could not begin any more fails as grpc's do."""
    gate, adapter = slow()

    async def body(channel: Any) -> None:
        call = open_call(channel, "unary_unary")
        await reaches(gate.asked)
        await channel.close()
        gate.go_on.set()
        with pytest.raises(grpc.aio.UsageError):
            await call
        with pytest.raises(grpc.aio.UsageError):
            await call.code()

    run(server, body, **adapter)
    assert server.calls == []


def test_a_callback_that_raises_stops_no_other(
    server: GrpcServer, provider: WatchedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the call goes on."""
    provider.token()

    async def body(channel: Any) -> None:
        called: list[Any] = []
        call = open_call(channel, "unary_unary")
        call.add_done_callback(lambda _: 1 / 0)
        call.add_done_callback(called.append)
        assert await call == REQUESTS[0]
        assert called == [call]

    run(server, body, provider=provider)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("leased", [True, False])
def test_a_failed_second_try_shows_no_token(
    leased: bool, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A traceback that prints our frames' locals prints neither token."""
    old = provider.grow_stale()
    if leased:
        provider.token()
    server.refuses = lambda value: True

    async def body(channel: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            await open_call(channel, "unary_unary")
        frames = traceback.walk_tb(caught.value.__traceback__)
        ours = [f for f, _ in frames if f.f_globals["__name__"].startswith("manor_mcp")]
        shown = repr([frame.f_locals for frame in ours])
        assert ours
        assert old not in shown
        assert str(provider.token()) not in shown

    run(server, body, provider=provider)
    assert len(server.calls) == 2
