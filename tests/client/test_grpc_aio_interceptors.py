from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Settings,
    TokenUnavailableError,
    grpc_aio_interceptors,
)
from tests.support import SECRET
from tests.support.grpc_clients import WatchedProvider, aio_channel, bearer
from tests.support.grpc_server import (
    AIO_CALLS,
    KINDS,
    REQUESTS,
    GrpcServer,
    expected,
    multi_callable,
)

Body = Callable[[Any], Awaitable[Any]]


def run(target: str, body: Body, *, interceptors: list[Any]) -> Any:
    """Run `body` with a channel, for ten seconds at most."""
    return run_on(lambda: grpc.aio.insecure_channel(target, interceptors=interceptors), body)


def run_on(open_channel: Callable[[], Any], body: Body) -> Any:
    async def main() -> Any:
        async with open_channel() as channel:
            return await asyncio.wait_for(body(channel), 10)

    return asyncio.run(main())


@pytest.fixture(params=["interceptors", "thin"])
def mode(request: pytest.FixtureRequest) -> str:
    """The adapter; a law that takes it holds for both."""
    value: str = request.param
    return value


def interceptors_of(provider: WatchedProvider, **adapter: Any) -> list[Any]:
    return grpc_aio_interceptors(provider=provider, **adapter)


def open_call(channel: Any, kind: str, **options: Any) -> Any:
    request = REQUESTS[0] if kind.startswith("unary") else iter(REQUESTS)
    return multi_callable(channel, kind)(request, timeout=10, **options)


async def reaches(event: Any) -> None:
    assert await asyncio.to_thread(event.wait, 5)


def test_one_object_for_each_kind() -> None:
    """Each of the four is of one kind only, because grpc.aio uses an object for one kind."""
    bases = (
        grpc.aio.UnaryUnaryClientInterceptor,
        grpc.aio.UnaryStreamClientInterceptor,
        grpc.aio.StreamUnaryClientInterceptor,
        grpc.aio.StreamStreamClientInterceptor,
    )
    found = [[base for base in bases if isinstance(o, base)] for o in grpc_aio_interceptors()]
    assert found == [[base] for base in bases]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("early", [True, False], ids=["at once", "in flight"])
def test_cancelling_reaches_the_server(
    kind: str, early: bool, mode: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """Cancelling the outer call ends the inner one, at any time."""
    server.open.clear()

    async def body(channel: Any) -> None:
        call = open_call(channel, kind)
        if not early:
            await reaches(server.hanging)
        assert call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert call.cancelled()
        assert call.done()
        if not early:
            await reaches(server.cancelled)

    run_on(lambda: aio_channel(mode, server.target, provider=provider), body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_done_callback_added_to_a_call_that_has_ended(
    kind: str, mode: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """It is called at once, with the call that the caller holds."""

    async def body(channel: Any) -> None:
        call = open_call(channel, kind)
        if kind.endswith("stream"):
            assert [part async for part in call]
        assert await call.code() is grpc.StatusCode.OK
        called: list[Any] = []
        call.add_done_callback(called.append)
        call.add_done_callback(called.append)
        assert called == [call, call]

    run_on(lambda: aio_channel(mode, server.target, provider=provider), body)


class SlowGate:
    """A gate that answers when the test lets it, on a thread of the package."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may_answer = threading.Event()

    def is_enabled(self, key: str, *, subject: str) -> bool:
        self.asked.set()
        return self.may_answer.wait(10)


@pytest.mark.parametrize("name", AIO_CALLS)
def test_a_slow_flag_does_not_hold_up_the_event_loop(name: str, server: GrpcServer) -> None:
    """The call waits for the first answer while the loop runs; then the token is sent."""
    gate = SlowGate()
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=gate)

    async def body(channel: Any) -> None:
        call = asyncio.ensure_future(AIO_CALLS[name](channel, timeout=10))
        await reaches(gate.asked)  # needs a loop that runs
        assert not server.calls
        gate.may_answer.set()
        assert await call == expected(name)

    run_on(lambda: aio_channel("interceptors", server.target, provider=provider), body)
    assert server.authorization == [[bearer(provider.token())]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_cancelled_while_it_waits_for_the_flag(kind: str, server: GrpcServer) -> None:
    """The end is final: nothing is ever sent."""
    gate = SlowGate()
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=gate)

    async def body(channel: Any) -> None:
        call = open_call(channel, kind)
        await reaches(gate.asked)
        assert call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED
        gate.may_answer.set()
        assert call.cancelled()

    run_on(lambda: aio_channel("interceptors", server.target, provider=provider), body)
    assert server.calls == []


class Cancelling(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    """Cancels each call as soon as there is one, without waiting for it."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        call = await continuation(client_call_details, request)
        assert call.cancel()
        return call


def test_an_outer_interceptor_that_cancels_sees_what_it_sees_alone(
    server: GrpcServer, provider: WatchedProvider
) -> None:
    """The call is returned to it before there is a response."""

    async def body(channel: Any) -> list[Any]:
        call = open_call(channel, "unary_unary")
        with pytest.raises(asyncio.CancelledError):
            await call
        answers = [call.code(), call.details(), call.initial_metadata(), call.trailing_metadata()]
        return [call.cancelled(), call.done(), *[await answer for answer in answers]]

    alone = run(server.target, body, interceptors=[Cancelling()])
    assert (
        run(server.target, body, interceptors=[Cancelling(), *interceptors_of(provider)]) == alone
    )
    assert alone[:3] == [True, True, grpc.StatusCode.CANCELLED]
    assert alone[4] == grpc.aio.Metadata()


class Raising(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    """Awaits its calls, so that their errors are raised in it."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        call = await continuation(client_call_details, request)
        del client_call_details  # which holds the token
        await call
        raise AssertionError


def test_an_inner_interceptor_that_raises_at_the_second_try_shows_no_token(
    server: GrpcServer, provider: WatchedProvider
) -> None:
    """No local of this package holds a token, in the error or in what it was raised from."""
    old = provider.grow_stale()
    server.refuses = lambda value: True

    async def body(channel: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await open_call(channel, "unary_unary")
        error: BaseException | None = caught.value
        shown = []
        while error is not None:
            frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
            shown += [f.f_locals for f in frames if "manor_mcp" in f.f_globals["__name__"]]
            error = error.__context__
        assert len(shown) > 1
        assert old not in repr(shown)
        assert str(provider.token()) not in repr(shown)

    run(server.target, body, interceptors=[*interceptors_of(provider), Raising()])
    assert len(server.calls) == 2


def test_cancelling_the_awaiting_task(
    mode: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A caller that gives up, as `wait_for` does, leaves no call running."""
    server.open.clear()

    async def body(channel: Any) -> None:
        async def wait() -> None:
            await open_call(channel, "unary_unary")

        task = asyncio.create_task(wait())
        await reaches(server.hanging)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await reaches(server.cancelled)

    run_on(lambda: aio_channel(mode, server.target, provider=provider), body)


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_is_answered(
    kind: str, mode: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """Callbacks, metadata, code and details arrive, also before the call has been awaited."""

    async def body(channel: Any) -> None:
        call = open_call(channel, kind)
        called: list[Any] = []
        call.add_done_callback(called.append)
        await call.wait_for_connection()
        assert ("initial", "here") in list(await call.initial_metadata())
        if kind.endswith("stream"):
            assert [part async for part in call]
        else:
            assert await call
        assert await call.code() is grpc.StatusCode.OK
        assert await call.details() == ""
        assert list(await call.trailing_metadata()) == []
        assert called == [call]

    run_on(lambda: aio_channel(mode, server.target, provider=provider), body)


def test_a_stream_is_not_awaited(mode: str, server: GrpcServer, provider: WatchedProvider) -> None:
    """The first message of a stream arrives before the server has ended the stream."""
    server.open.clear()

    async def body(channel: Any) -> None:
        stream = open_call(channel, "stream_stream")
        assert await stream.read() == REQUESTS[0]
        assert not stream.done()
        server.open.set()
        assert await stream.read() == REQUESTS[1]

    run_on(lambda: aio_channel(mode, server.target, provider=provider), body)


def test_a_second_try_has_what_is_left_of_the_timeout(
    mode: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """After a slow refusal, the second try ends when the caller's timeout does."""
    provider.grow_stale()
    server.refuses = lambda value: True
    server.refuse_after = 0.4

    async def body(channel: Any) -> None:
        started = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await multi_callable(channel, "unary_unary")(b"", timeout=0.6)
        assert time.monotonic() - started < 0.75
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    run_on(lambda: aio_channel(mode, server.target, provider=provider), body)
    assert len(server.calls) == 2
    assert server.calls[1].time_remaining is not None
    assert server.calls[1].time_remaining < 0.3


def test_many_tasks_with_one_stale_token(
    mode: str, server: GrpcServer, provider: WatchedProvider, mints: list[Any]
) -> None:
    """Fifty tasks with the same refusal all get their response, and one token is minted."""
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    server.refuse_after = 0.05
    mints.clear()

    async def body(channel: Any) -> Any:
        return await asyncio.gather(*(open_call(channel, "unary_unary") for _ in range(50)))

    assert (
        run_on(lambda: aio_channel(mode, server.target, provider=provider), body)
        == [REQUESTS[0]] * 50
    )
    assert len(mints) == 1
    assert len(server.calls) <= 100


class Passing:
    """Another interceptor; it changes details and may await its calls."""

    def __init__(self, *, awaits: bool = False) -> None:
        self.details: list[Any] = []
        self._awaits = awaits

    async def pass_on(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.details.append(client_call_details)
        metadata = grpc.aio.Metadata(*client_call_details.metadata, ("x-other", "1"))
        # Call credentials would need a secure channel.
        method, timeout, _, _, wait_for_ready = client_call_details
        changed = type(client_call_details)(method, timeout, metadata, None, wait_for_ready)
        call = await continuation(changed, request)
        return await call if self._awaits else call


class PassingUnary(Passing, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    intercept_unary_unary = Passing.pass_on


class PassingUnaryStream(Passing, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    intercept_unary_stream = Passing.pass_on


class PassingStreamUnary(Passing, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    intercept_stream_unary = Passing.pass_on  # type: ignore[assignment]


class PassingStreams(Passing, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    intercept_stream_stream = Passing.pass_on  # type: ignore[assignment]


@pytest.mark.parametrize("name", AIO_CALLS)
@pytest.mark.parametrize("order", ["adapter first", "adapter last"])
def test_beside_other_interceptors(
    name: str, order: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """Before or after one that awaits unary calls, each takes effect once."""
    others = [
        PassingUnary(awaits=True),
        PassingUnaryStream(),
        PassingStreamUnary(),
        PassingStreams(),
    ]
    adapter = interceptors_of(provider)
    interceptors = [*adapter, *others] if order == "adapter first" else [*others, *adapter]
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)

    async def body(channel: Any) -> None:
        if not name.startswith("unary_unary"):
            with pytest.raises(grpc.RpcError):
                await AIO_CALLS[name](channel, timeout=10)
        await AIO_CALLS[name](channel, timeout=10)

    run(server.target, body, interceptors=interceptors)
    assert server.authorization == [[bearer(old)], [bearer(provider.token())]]
    for seen in server.calls:
        assert [key for key, _ in seen.metadata].count("x-other") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_all_five_fields_survive(kind: str, server: GrpcServer, provider: WatchedProvider) -> None:
    """The caller's options pass through; grpc.aio puts compression into the metadata."""
    credentials = grpc.access_token_call_credentials("unused")
    others = [
        cls() for cls in (PassingUnary, PassingUnaryStream, PassingStreamUnary, PassingStreams)
    ]

    async def body(channel: Any) -> None:
        call = open_call(
            channel,
            kind,
            metadata=(("a", "1"),),
            credentials=credentials,
            wait_for_ready=True,
            compression=grpc.Compression.Gzip,
        )
        if kind.endswith("stream"):
            assert [part async for part in call]
        assert await call.code() is grpc.StatusCode.OK

    run(server.target, body, interceptors=[*interceptors_of(provider), *others])
    (details,) = [details for other in others for details in other.details]
    assert details.method.decode().endswith(kind)
    assert 5 < details.timeout <= 10  # less what the provider took
    assert details.credentials is credentials
    assert details.wait_for_ready is True
    keys = [key for key, _ in details.metadata]
    assert {"a", "authorization"} < set(keys)
    assert len(keys) == 3  # with the compression, whose key is bytes in older grpcio


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
@pytest.mark.parametrize(
    "unsendable",
    [{"metadata": (("x", "ümläut"),)}, {"metadata": (("X-Upper", "v"),)}, {"request": object()}],
    ids=["value", "key", "request"],
)
def test_what_cannot_be_sent(
    kind: str, unsendable: dict[str, Any], server: GrpcServer, provider: WatchedProvider
) -> None:
    """What gRPC refuses to send ends the call as without an adapter, and nothing hangs."""

    async def body(channel: Any) -> Any:
        request = unsendable.get("request", b"")
        metadata = unsendable.get("metadata")
        call = multi_callable(channel, kind)(request, metadata=metadata, timeout=0.5)
        try:
            return await call if kind == "unary_unary" else [part async for part in call]
        except grpc.RpcError as error:
            return error.code()
        except Exception as error:
            return type(error), str(error).partition(" at 0x")[0]

    outcomes = [run(server.target, body, interceptors=[])]
    for mode in ("interceptors", "thin"):
        opening = partial(aio_channel, mode, server.target, provider=provider)
        outcomes.append(run_on(opening, body))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert not isinstance(outcomes[0], (bytes, list))
    assert server.calls == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_required_token_is_missing(kind: str, mode: str, server: GrpcServer) -> None:
    """The failed call answers every question of a caller, and nothing is sent."""

    async def body(channel: Any) -> None:
        call = open_call(channel, kind)
        called: list[Any] = []
        call.add_done_callback(called.append)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "flag" in await call.details()
        assert list(await call.initial_metadata()) == []
        assert list(await call.trailing_metadata()) == []
        assert call.done()
        assert not call.cancelled()
        assert called == [call]
        with pytest.raises(TokenUnavailableError):
            await call.wait_for_connection()

    run_on(
        lambda: aio_channel(mode, server.target, provider=WatchedProvider(on=False), required=True),
        body,
    )
    assert server.calls == []
