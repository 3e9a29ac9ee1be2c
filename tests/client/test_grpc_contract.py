"""One contract over every gRPC adapter and every kind of call, against a real server."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import time
from typing import Any

import grpc
import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    Settings,
    TokenUnavailableError,
    get_token,
)
from tests.support import SECRET, StaticGate
from tests.support.eventually import eventually
from tests.support.grpc_clients import (
    ADAPTERS,
    WAYS,
    WatchedProvider,
    bearer,
    call,
    calls,
)
from tests.support.grpc_server import GrpcServer, expected

Way = tuple[str, str]

every_way = pytest.mark.parametrize("way", WAYS, ids="-".join)
every_adapter = pytest.mark.parametrize(
    "way", [(adapter, "unary_unary") for adapter in ADAPTERS], ids="-".join
)


@every_way
def test_a_token_is_sent(way: Way, server: GrpcServer, env_on: None) -> None:
    """With the flag on, the server receives exactly one token, and the response arrives."""
    assert call(way, server.target) == expected(way[1])
    assert server.authorization == [[bearer(get_token())]]


@every_way
def test_no_token_is_sent_with_the_flag_off(way: Way, server: GrpcServer) -> None:
    """With the flag off, the call is sent without a token."""
    assert call(way, server.target) == expected(way[1])
    assert server.authorization == [[]]


METADATA = [
    [("x-caller", "kept")],
    (("x-caller", "kept"), ("x-bin", b"\x00\xff")),
    grpc.aio.Metadata(("x-caller", "kept"), ("x-caller", "twice")),
]


@every_adapter
@pytest.mark.parametrize("metadata", METADATA, ids=lambda metadata: type(metadata).__name__)
def test_metadata_is_added_to(
    way: Way, metadata: Any, server: GrpcServer, provider: WatchedProvider
) -> None:
    """All that the caller sent arrives beside the token, and the caller's object is unchanged."""
    before = type(metadata), list(metadata)
    call(way, server.target, adapter={"provider": provider}, metadata=metadata)
    assert (type(metadata), list(metadata)) == before
    assert server.authorization == [[bearer(provider.token())]]
    sent = server.calls[0].metadata
    assert [entry for entry in sent if entry[0].startswith("x-")] == before[1]


@every_adapter
@pytest.mark.parametrize("on", [True, False])
def test_a_generator_of_metadata(way: Way, on: bool, server: GrpcServer) -> None:
    """Metadata that can be read only once arrives, with the token and with the flag off."""
    provider = WatchedProvider(on=on)
    metadata = (entry for entry in [("x-caller", "kept")])
    call(way, server.target, adapter={"provider": provider}, metadata=metadata)
    assert ("x-caller", "kept") in server.calls[-1].metadata
    assert server.authorization == [[bearer(provider.token())] if on else []]


@every_way
def test_the_callers_authorization_wins(
    way: Way, server: GrpcServer, provider: WatchedProvider
) -> None:
    """It is sent alone; if it is refused, no token is reported as refused."""
    provider.grow_stale()
    adapter = {"provider": provider, "required": True}
    metadata = (("authorization", "Basic own"),)
    call(way, server.target, adapter=adapter, metadata=metadata)
    server.refuses = lambda value: True
    with pytest.raises(grpc.RpcError) as caught:
        call(way, server.target, adapter=adapter, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert server.authorization == [["Basic own"]] * 2
    assert provider.refused.empty()


@every_adapter
def test_another_audience(way: Way, server: GrpcServer, provider: WatchedProvider) -> None:
    """The adapter's audience decides which token is sent."""
    call(way, server.target, adapter={"provider": provider, "audience": "elsewhere"})
    assert server.authorization == [[bearer(provider.for_audience("elsewhere").token())]]
    assert server.authorization != [[bearer(provider.token())]]


@every_way
def test_required_fails_before_a_byte_is_sent(way: Way, server: GrpcServer) -> None:
    """A required token that is missing is an error of both libraries, and names the outcome."""
    adapter = {"provider": WatchedProvider(on=False), "required": True}
    with pytest.raises(TokenUnavailableError) as caught:
        call(way, server.target, adapter=adapter)
    assert caught.value.outcome is Outcome.FLAG_OFF
    assert isinstance(caught.value, grpc.RpcError)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "flag" in str(caught.value.details())
    assert server.calls == []


class BrokenProvider(WatchedProvider):
    """A provider with a bug in each method that adapters call."""

    def decision(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("holds a secret: " + SECRET)

    async def decision_async(self, *_: Any, **__: Any) -> Any:
        return self.decision()


class CannotInvalidate(WatchedProvider):
    """A provider that cannot be told of a refusal."""

    def invalidate(self, token: str) -> None:
        self.refused.put(token)
        raise RuntimeError("holds a token: " + token)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "manor_mcp_interceptors" and record.levelno >= logging.WARNING
    ]


@every_way
def test_a_decision_that_raises_breaks_no_call(
    way: Way, server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The calls are sent as their caller made them; one log line names the type of the error."""
    made = calls(way, server.target, 2, adapter={"provider": BrokenProvider()})
    assert made == [expected(way[1])] * 2
    assert server.authorization == [[], []]
    (line,) = warnings(caplog)
    assert "RuntimeError" in line
    assert SECRET not in caplog.text


@every_way
def test_an_invalidation_that_raises_breaks_no_call(
    way: Way, server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal stands; one log line names the type of the error."""
    provider = CannotInvalidate()
    server.refuses = lambda value: True
    made = calls(way, server.target, 2, adapter={"provider": provider})
    assert made == [grpc.StatusCode.UNAUTHENTICATED] * 2
    assert provider.refused.get(timeout=5) == provider.refused.get(timeout=5)
    assert eventually(lambda: len(warnings(caplog)) == 1)
    assert "RuntimeError" in warnings(caplog)[0]
    assert provider.refused.empty()


class CannotRenew(BrokenProvider):
    """A provider with a bug that shows once a token was refused."""

    def decision(self, *args: Any, **options: Any) -> Any:
        if self.refused.empty():
            return WatchedProvider.decision(self, *args, **options)
        return super().decision()


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way[1].startswith("unary_unary")], ids="-".join
)
def test_a_renewal_that_raises_breaks_no_call(
    way: Way, server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal stands; one log line names the type of the error."""
    server.refuses = lambda value: True
    made = calls(way, server.target, 1, adapter={"provider": CannotRenew()})
    assert made == [grpc.StatusCode.UNAUTHENTICATED]
    assert len([line for line in warnings(caplog) if "RuntimeError" in line]) == 1
    assert SECRET not in caplog.text


@every_way
def test_metadata_that_cannot_be_extended(
    way: Way, server: GrpcServer, provider: WatchedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """The call ends as it does without an adapter; the log has one line at most."""
    bare = ("sync bare" if way[0].startswith("sync") else "aio bare", way[1])
    without = calls(bare, server.target, 2, adapter={}, metadata=(1,), timeout=2)
    caplog.clear()
    made = calls(way, server.target, 2, adapter={"provider": provider}, metadata=(1,), timeout=2)
    assert made == without
    assert len(warnings(caplog)) <= 1


class Unreadable(str):
    """A key that grpc can send and this package cannot read."""

    __slots__ = ()

    def lower(self) -> str:
        raise RuntimeError


@every_way
def test_metadata_that_cannot_be_read_is_sent_as_it_is(
    way: Way, server: GrpcServer, provider: WatchedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a token; one log line names the type of the error."""
    metadata = ((Unreadable("x"), "y"),)
    made = calls(way, server.target, 2, adapter={"provider": provider}, metadata=metadata)
    assert made == [expected(way[1])] * 2
    assert server.authorization == [[], []]
    (line,) = warnings(caplog)
    assert "RuntimeError" in line


@every_way
def test_an_error_about_other_metadata_shows_no_token(
    way: Way, server: GrpcServer, provider: WatchedProvider
) -> None:
    """Before 1.81, the text of grpcio's error lists all entries."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever grpc raises
        call(way, server.target, adapter={"provider": provider}, metadata=[("X", "y")], timeout=1)
    token = provider.token()
    assert token is not None
    assert token not in f"{caught.value} {caught.value!r}"


@every_way
def test_an_error_is_no_token_if_one_is_required(way: Way, server: GrpcServer) -> None:
    """Not even a bug lets a call out without a token that is required."""
    with pytest.raises(TokenUnavailableError) as caught:
        call(way, server.target, adapter={"provider": BrokenProvider(), "required": True})
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None
    assert server.calls == []


@every_adapter
def test_configure_reaches_adapters_that_exist(way: Way, server: GrpcServer) -> None:
    """An adapter without a provider follows the process-wide one."""
    gate = StaticGate(on=False)
    MCPTokenProvider.configure(settings=Settings(secret=SECRET, recheck_seconds=0), gate=gate)

    def turn_on() -> None:
        gate.on = True

    calls(way, server.target, 2, adapter={}, after=turn_on)
    assert server.authorization == [[], [bearer(get_token())]]


@every_way
def test_a_refusal_renews_the_token(
    way: Way, server: GrpcServer, provider: WatchedProvider
) -> None:
    """UNAUTHENTICATED renews the token; unary-unary is sent again, what streams is not."""
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    if way[1].startswith("unary_unary"):
        assert call(way, server.target, adapter={"provider": provider}) == expected(way[1])
    else:
        with pytest.raises(grpc.RpcError) as caught:
            call(way, server.target, adapter={"provider": provider})
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert provider.refused.get(timeout=5) == old
        assert call(way, server.target, adapter={"provider": provider}) == expected(way[1])
    assert server.authorization == [[bearer(old)], [bearer(provider.token())]]
    assert provider.token() != old


@every_way
def test_no_second_try_with_the_same_token(
    way: Way, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A token too young to be replaced is sent once: the refusal stands."""
    server.refuses = lambda value: True
    with pytest.raises(grpc.RpcError) as caught:
        call(way, server.target, adapter={"provider": provider})
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "no"
    assert server.authorization == [[bearer(provider.token())]]


@every_way
def test_at_most_one_second_try(way: Way, server: GrpcServer, provider: WatchedProvider) -> None:
    """A server that refuses everything sees a unary-unary call twice at most, and once after."""
    provider.grow_stale()
    server.refuses = lambda value: True
    tries = 2 if way[1].startswith("unary_unary") else 1
    for _ in range(3):
        with pytest.raises(grpc.RpcError):
            call(way, server.target, adapter={"provider": provider})
        provider.refused.get(timeout=5)
    assert len(server.calls) == tries + 2


MANY = 50
"""Refused calls; each that is kept holds dozens of objects."""


@pytest.mark.slow
@pytest.mark.untraced
@every_way
def test_refused_calls_are_freed(
    way: Way, server: GrpcServer, provider: WatchedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """After many refused calls no more objects are alive than after a few."""
    caplog.set_level(logging.CRITICAL, "manor_mcp_interceptors")  # pytest keeps log records
    server.refuses = lambda value: True
    alive: list[int] = []

    def count() -> None:
        server.calls.clear()
        while not provider.refused.empty():
            provider.refused.get()
        if len(alive) % 2:
            provider.clock.advance(60)  # the next one is sent a second time
        alive.append(0)
        if len(alive) in (10, 10 + MANY):
            gc.collect()
            alive[-1] = len(gc.get_objects())

    calls(way, server.target, 10 + MANY, adapter={"provider": provider}, after=count)
    assert max(alive[10:]) - max(alive[:10]) < 5 * MANY


class SlowProvider(WatchedProvider):
    """A provider whose decisions take time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def decision(self, *args: Any, **options: Any) -> Any:
        time.sleep(self.seconds)
        return super().decision(*args, **options)

    async def decision_async(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(self.seconds)
        return await super().decision_async(*args, **options)


@every_way
def test_a_wait_for_a_decision_counts_against_the_timeout(way: Way, server: GrpcServer) -> None:
    """The server has what is left of it."""
    provider = SlowProvider(0.05)
    assert call(way, server.target, adapter={"provider": provider}, timeout=5) == expected(way[1])
    left = server.calls[0].time_remaining
    assert left is not None
    assert left < 5 - provider.seconds + 0.02


@every_adapter
def test_a_call_whose_time_is_up_does_not_wait_again(way: Way, server: GrpcServer) -> None:
    """It ends when the decision is there, with the status code of gRPC."""
    provider = SlowProvider(0.3)
    server.open.clear()
    started = time.monotonic()
    made = calls(way, server.target, 1, adapter={"provider": provider}, timeout=0.29)
    assert made == [grpc.StatusCode.DEADLINE_EXCEEDED]
    assert time.monotonic() - started < 0.3 + 0.29


class SlowGate:
    """A gate whose first answer takes longer than a caller may wait."""

    def is_enabled(self, key: str, *, subject: str) -> bool:
        time.sleep(0.7)
        return True


@every_adapter
@pytest.mark.slow
def test_a_deadline_covers_the_wait_for_a_slow_flag(way: Way, server: GrpcServer) -> None:
    """With a timeout of 0.2 s a call ends after 0.2 s, whatever the flag does."""
    server.open.clear()
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=SlowGate())
    started = time.monotonic()
    calls(way, server.target, 1, adapter={"provider": provider}, timeout=0.2)
    assert time.monotonic() - started < 0.6


SPANS = """
from opentelemetry.sdk.trace import TracerProvider
from tests.support.grpc_clients import WAYS, WatchedProvider, calls
from tests.support.grpc_server import GrpcServer
from opentelemetry import trace
tracer = TracerProvider().get_tracer("test")
with GrpcServer() as server:
    for way in WAYS:
        provider = WatchedProvider()
        provider.decision()
        with tracer.start_as_current_span("call") as span:
            calls(way, server.target, 1, adapter={"provider": provider})
        print(dict(span.attributes))
"""


@pytest.mark.slow
def test_the_span_of_every_call_has_the_outcome() -> None:
    """Also of a call for which no new decision was made."""
    shown = run_python(SPANS)
    assert shown.splitlines() == ["{'manor.mcp_auth.outcome': 'ok'}"] * len(WAYS)


PENDING_AT_EXIT = """
import asyncio, sys, threading
from tests.support.grpc_clients import WatchedProvider, aio_channel, sync_channel
from tests.support.grpc_server import GrpcServer, multi_callable
import grpc
renewing = threading.Event()

class Hanging(WatchedProvider):
    def decision(self, *args, **options):
        if self.refused.empty():
            return super().decision(*args, **options)
        renewing.set()
        threading.Event().wait()

    async def decision_async(self, *args, **options):
        if self.refused.empty():
            return await super().decision_async(*args, **options)
        renewing.set()
        await asyncio.Event().wait()

async def aio(target):
    async with aio_channel(sys.argv[1], target, provider=Hanging()) as channel:
        call = multi_callable(channel, "unary_unary")(b"")
        call.add_done_callback(print)
        while not renewing.is_set():
            await asyncio.sleep(0.01)

with GrpcServer() as server:
    server.refuses = lambda value: True
    if sys.argv[1].startswith("aio"):
        asyncio.run(aio(server.target))
    else:
        bare = grpc.insecure_channel(server.target)
        channel = sync_channel(sys.argv[1], bare, provider=Hanging())
        call = multi_callable(channel, "unary_unary").future(b"")
        renewing.wait()
print("ended")
"""


@every_adapter
@pytest.mark.slow
def test_a_second_try_that_is_pending_at_exit_does_not_hold_the_process(way: Way) -> None:
    """The renewal of a refused token hangs; the process ends all the same."""
    assert "ended" in run_python(PENDING_AT_EXIT, way[0])


def run_python(code: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
