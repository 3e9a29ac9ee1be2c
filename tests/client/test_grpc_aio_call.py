"""The second try of a unary-unary aio call, through interceptors and the thin channel."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from tests.support.grpc_clients import WatchedProvider, aio_channel, bearer
from tests.support.grpc_server import REQUESTS, GrpcServer, multi_callable


@pytest.fixture(params=["aio", "aio thin"])
def mode(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


def run(
    mode: str, server: GrpcServer, body: Callable[[Any], Awaitable[None]], **adapter: Any
) -> None:
    """Run `body` with a channel, for ten seconds at most."""

    async def main() -> None:
        async with aio_channel(mode, server.target, **adapter) as channel:
            await asyncio.wait_for(body(channel), 10)

    asyncio.run(main())


def open_call(channel: Any) -> Any:
    return multi_callable(channel, "unary_unary")(REQUESTS[0], timeout=10)


async def by_callback(call: Any) -> None:
    ended = asyncio.Event()
    call.add_done_callback(lambda _: ended.set())
    await ended.wait()


async def by_asking(call: Any) -> None:
    while not call.done():  # noqa: ASYNC110 - the answer of `done` is the question
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "ask",
    [
        by_callback,
        by_asking,
        lambda call: call.code(),
        lambda call: call.details(),
        lambda call: call.initial_metadata(),
        lambda call: call.trailing_metadata(),
        lambda call: call.wait_for_connection(),
        lambda call: call,
    ],
)
def test_every_question_leads_to_the_second_try(
    ask: Any, mode: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """Whichever comes first, it and all others are answered by the second try."""
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)

    async def body(channel: Any) -> None:
        call = open_call(channel)
        await ask(call)
        assert await call.code() is grpc.StatusCode.OK
        assert ("initial", "here") in list(await call.initial_metadata())
        assert await call == REQUESTS[0]
        assert call.done()
        assert not call.cancel()

    run(mode, server, body, provider=provider)
    assert server.authorization == [[bearer(old)], [bearer(provider.token())]]


class HangingProvider(WatchedProvider):
    """A provider that renews a refused token when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.renewing = asyncio.Event()
        self.may_renew = asyncio.Event()

    async def decision_async(self, *args: Any, **options: Any) -> Any:
        if not self.refused.empty():
            self.renewing.set()
            await self.may_renew.wait()
        return await super().decision_async(*args, **options)


def hanging(server: GrpcServer) -> HangingProvider:
    provider = HangingProvider()
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    return provider


@pytest.mark.parametrize("by", ["call", "task"])
def test_cancelled_while_its_token_is_renewed(by: str, mode: str, server: GrpcServer) -> None:
    """The call has ended at once, and nothing is sent again."""
    provider = hanging(server)

    async def body(channel: Any) -> None:
        call = open_call(channel)
        ended: list[Any] = []
        call.add_done_callback(ended.append)
        waiting = asyncio.ensure_future(wait(call))
        await provider.renewing.wait()
        assert not call.done()
        assert not call.cancelled()
        assert call.cancel() if by == "call" else waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ended == [call]
        assert call.cancelled()
        assert call.done()
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert "cancelled" in await call.details()
        assert list(await call.initial_metadata()) == list(await call.trailing_metadata()) == []
        assert await call.debug_error_string() is not None
        with pytest.raises(asyncio.CancelledError):
            await call
        assert not call.cancel()
        provider.may_renew.set()

    run(mode, server, body, provider=provider)
    assert len(server.calls) == 1


async def wait(call: Any) -> Any:
    return await call


def test_cancelling_a_question_does_not_cancel_the_call(mode: str, server: GrpcServer) -> None:
    """A task that asks for the code gives up; the second try comes all the same."""
    provider = hanging(server)

    async def body(channel: Any) -> None:
        call = open_call(channel)
        question = asyncio.ensure_future(call.code())
        await provider.renewing.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        provider.may_renew.set()
        assert await call == REQUESTS[0]

    run(mode, server, body, provider=provider)


def test_the_channel_is_closed_meanwhile(mode: str, server: GrpcServer) -> None:
    """The second try cannot be made: the refusal stands, or grpc has cancelled the call."""
    provider = hanging(server)

    async def body(channel: Any) -> None:
        call = open_call(channel)
        waiting = asyncio.ensure_future(wait(call))
        await provider.renewing.wait()
        await channel.close()
        provider.may_renew.set()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await waiting
        assert await call.code() in {
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.CANCELLED,  # since 1.83, `close` finds the calls of interceptors
        }

    run(mode, server, body, provider=provider)


def test_a_callback_that_raises_stops_no_other(
    server: GrpcServer, provider: WatchedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the call continues."""

    async def body(channel: Any) -> None:
        called: list[Any] = []
        call = open_call(channel)
        call.add_done_callback(lambda _: 1 / 0)
        call.add_done_callback(called.append)
        assert await call == REQUESTS[0]
        assert called == [call]

    run("aio thin", server, body, provider=provider)
    assert "ZeroDivisionError" in caplog.text


def test_a_failed_second_try_shows_no_token(
    mode: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A traceback that prints the locals of this package prints neither token."""
    old = provider.grow_stale()
    server.refuses = lambda value: True

    async def body(channel: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            await open_call(channel)
        frames = traceback.walk_tb(caught.value.__traceback__)
        package = [f for f, _ in frames if f.f_globals["__name__"].startswith("manor_mcp")]
        shown = repr([frame.f_locals for frame in package])
        assert package
        assert old not in shown
        assert str(provider.token()) not in shown

    run(mode, server, body, provider=provider)
    assert len(server.calls) == 2


def test_a_call_that_ends_with_its_loop(mode: str, server: GrpcServer) -> None:
    """Asked after the event loop has ended, a refused call is done: the refusal stands."""
    server.refuses = lambda value: True
    left: list[Any] = []

    async def body(channel: Any) -> None:
        call = open_call(channel)
        left.append(call)
        while not server.calls:  # noqa: ASYNC110 - the server runs on other threads
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)

    run(mode, server, body, provider=WatchedProvider())
    assert left[0].done()
