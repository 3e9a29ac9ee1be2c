"""A token source: when it is asked, and what calls carry while it fails, hangs or refuses."""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import trio

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    Settings,
    SettingsError,
    TokenSource,
    _asking,
)
from manor_mcp_interceptors._asking import FIRST_WAIT
from tests.support import SECRET, FakeClock, StaticGate
from tests.support.eventually import eventually
from tests.support.issuers import cluster

ISSUER = cluster()
USER: ContextVar[str] = ContextVar("USER", default="nobody")


class Source:
    """Gives tokens that live for `lifetime` seconds by `clock`, each unlike the others."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[str] = []
        self.given: list[str] = []
        self.make: Callable[[str], Any] = self.jwt
        self.works = True
        self.lifetime = 60
        self.go = threading.Event()
        self.go.set()

    def __call__(self, audience: str) -> str | None:
        self.asked.append(audience)
        assert self.go.wait(30)
        if not self.works:
            raise ConnectionError("https://sts.example/?token=eyJ-not-for-the-log")
        token = self.make(audience)
        self.given.append(token)
        return token  # type: ignore[no-any-return]

    def jwt(self, audience: str) -> str:
        return ISSUER.token(
            exp=int(self.clock.time() + self.lifetime), audience=audience, jti=len(self.asked)
        )

    def opaque(self, _: str) -> str:
        return f"opaque-{len(self.asked)}"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """Wait long for a later answer, as a busy machine gives it late; return the real limit."""
    real = _asking.WAIT
    monkeypatch.setattr(_asking, "WAIT", 10.0)
    return real


@pytest.fixture
def source(clock: FakeClock) -> Iterator[Source]:
    made = Source(clock)
    yield made
    made.go.set()


@pytest.fixture
def provider(source: Source, clock: FakeClock) -> MCPTokenProvider:
    return provider_of(source, clock)


def provider_of(source: TokenSource, clock: FakeClock, **settings: Any) -> MCPTokenProvider:
    given = Settings(**settings)
    return MCPTokenProvider(given, gate=StaticGate(), clock=clock, token_source=source)


def test_a_jwt_is_used_until_its_margin_and_then_asked_for_at_each_recheck(
    source: Source, provider: MCPTokenProvider, clock: FakeClock
) -> None:
    """The old one serves until its `exp` while the source has no new one."""
    first = provider.token()
    assert first == source.given[0]
    clock.advance(29)
    assert provider.token() == first
    assert source.asked == ["service-search-mcp"]
    source.make = lambda _: first
    for _ in range(30):
        clock.advance(1)
        assert provider.token() == provider.token() == first
    assert len(source.asked) == 1 + 30
    source.make = source.jwt
    clock.advance(1)
    assert provider.token() == source.given[-1] != first


def test_an_opaque_token_is_asked_for_at_each_recheck(
    source: Source, provider: MCPTokenProvider, clock: FakeClock
) -> None:
    """Nobody knows when it expires."""
    source.make = source.opaque
    for count in (1, 2, 3):
        assert provider.token() == provider.token() == f"opaque-{count}"
        clock.advance(1)
    assert provider.status().seconds_to_expiry is None


def test_each_audience_has_its_token(source: Source, provider: MCPTokenProvider) -> None:
    """The source is told for whom it is asked."""
    tokens = {provider.token(), provider.for_audience("other-mcp").token()}
    assert source.asked == ["service-search-mcp", "other-mcp"]
    assert tokens == set(source.given)


def test_another_audience_in_the_settings_is_another_token(
    source: Source, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next recheck, however fresh the old one is."""
    provider = MCPTokenProvider(gate=StaticGate(), clock=clock, token_source=source)
    assert provider.token() is not None
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "other-mcp")
    clock.advance(1)
    assert provider.token() == source.given[1]
    assert source.asked == ["service-search-mcp", "other-mcp"]


def test_a_source_that_raises_leaves_the_last_token_until_its_exp(
    source: Source, provider: MCPTokenProvider, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, and one that there is none any more; no text of the exception."""
    first = provider.token()
    source.works = False
    for _ in range(59):
        clock.advance(1)
        assert provider.token() == first
    clock.advance(1)
    assert provider.token() is None
    status = provider.status()
    assert status.outcome is Outcome.SOURCE_FAILED
    assert status.reason == "token_source (Source) raised ConnectionError"
    source.works = True
    clock.advance(1)
    assert provider.token() == source.given[-1]
    lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert lines == [
        "token_source (Source) raised ConnectionError; the last good token stays in use",
        "MCP auth source_failed: token_source (Source) raised ConnectionError",
    ]


@pytest.mark.parametrize(
    ("answer", "outcome", "problem"),
    [
        (None, Outcome.NOT_CONFIGURED, "has no token for the audience 'service-search-mcp'"),
        (b"bytes", Outcome.INVALID_CONFIG, "gave bytes, not text or None"),
        ("", Outcome.INVALID_CONFIG, "gave text that does not hold a token"),
        ("a\r\nX-Admin: yes", Outcome.INVALID_CONFIG, "gave text that does not hold a token"),
        (ISSUER.token(audience="other"), Outcome.INVALID_CONFIG, "its aud is 'other'"),
        (ISSUER.token(exp=1), Outcome.INVALID_CONFIG, "the token expired"),
    ],
    ids=["none", "bytes", "empty", "injection", "audience", "expired"],
)
def test_an_answer_that_cannot_be_sent_is_not_sent(
    source: Source, provider: MCPTokenProvider, answer: Any, outcome: Outcome, problem: str
) -> None:
    """The reason names the source and what is wrong."""
    source.make = lambda _: answer
    assert provider.headers() == {}
    status = provider.status()
    assert status.outcome is outcome
    assert status.reason.startswith("token_source (Source)")
    assert problem in status.reason


def test_a_hanging_source_delays_the_first_call_only(
    source: Source, provider: MCPTokenProvider, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by a bounded time; its answer is used when it comes, without asking again."""
    monkeypatch.setattr(_asking, "FIRST_WAIT", 0.1)
    source.go.clear()
    began = time.monotonic()
    assert provider.token() is None
    assert provider.status().reason == "token_source (Source) gave no answer in time"
    clock.advance(1)
    assert provider.token() is None
    assert time.monotonic() - began < 0.6
    source.go.set()
    assert eventually(lambda: provider.token() is not None)
    assert provider.token() == source.given[0]
    assert len(source.asked) == 1


def test_a_source_that_hangs_later_delays_no_call(
    source: Source,
    provider: MCPTokenProvider,
    clock: FakeClock,
    patience: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last token serves; the late answer is used at the next recheck, until its margin."""
    first = provider.token()
    source.go.clear()
    monkeypatch.setattr(_asking, "WAIT", patience)
    began = time.monotonic()
    for _ in range(20):
        clock.advance(1.5)
        assert provider.token() == first
    assert time.monotonic() - began < FIRST_WAIT
    source.go.set()
    assert eventually(lambda: len(source.given) == 2)
    clock.advance(1)
    assert eventually(lambda: provider.token() == source.given[1])
    assert len(source.asked) == 2
    monkeypatch.setattr(_asking, "WAIT", 10.0)
    clock.advance(31)
    assert provider.token() == source.given[2]


def test_a_refused_token_has_the_source_asked_at_once_and_once_per_margin(
    source: Source, clock: FakeClock
) -> None:
    """Whatever the source gives, a server cannot have it asked at each call."""
    source.lifetime = 600
    provider = provider_of(source, clock, recheck_seconds=1000)
    first = str(provider.token())
    provider.invalidate(first)
    second = str(provider.token())
    assert second == source.given[1] != first
    for _ in range(100):
        provider.invalidate(second)
        assert provider.token() == second
    assert len(source.asked) == 2
    clock.advance(29.9)
    provider.invalidate(second)
    assert provider.token() == second
    clock.advance(0.1)
    provider.invalidate(second)
    assert provider.token() == source.given[2]


def test_a_token_that_comes_late_after_a_refusal_is_used_at_once(
    source: Source, clock: FakeClock
) -> None:
    """Without a further question, and before the next recheck."""
    source.lifetime = 600
    provider = provider_of(source, clock, recheck_seconds=1000)
    first = str(provider.token())
    source.go.clear()
    provider.invalidate(first)
    assert provider.decision(max_wait=0.01).token == first
    source.go.set()
    assert eventually(lambda: provider.token() == source.given[-1] != first)
    assert len(source.asked) == 2


def give(audience: str) -> str:
    return f"opaque-for-{audience}"


def test_a_pickled_provider_names_its_source() -> None:
    """A function of a module, as a gate is; nothing that it has given is in the pickle."""
    provider = MCPTokenProvider(gate=StaticGate(), token_source=give)
    token = str(provider.token())
    pickled = pickle.dumps(provider)
    assert token.encode() not in pickled
    assert pickle.loads(pickled).token() == token


@pytest.mark.parametrize("name", ["secret", "secret_file", "private_key_file", "token_file"])
def test_a_source_in_code_beside_one_in_the_settings_is_refused(
    source: Source, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """From the environment too; both are named, and the source is not asked."""
    monkeypatch.setenv(f"MCP_AUTH_{name.upper()}", SECRET)
    provider = MCPTokenProvider(gate=StaticGate(), clock=clock, token_source=source)
    assert provider.token() is None
    status = provider.status()
    assert status.outcome is Outcome.INVALID_CONFIG
    assert status.reason.startswith(f"token_source and MCP_AUTH_{name.upper()} are both set")
    assert source.asked == []


def test_what_cannot_be_called_is_no_token_source() -> None:
    """It fails where it is handed in."""
    with pytest.raises(SettingsError, match="token_source: str is not callable"):
        MCPTokenProvider.configure(token_source="eyJ")  # type: ignore[arg-type]


def test_with_the_flag_off_the_source_is_not_asked(source: Source, clock: FakeClock) -> None:
    """Neither by a call nor by who looks at the status."""
    provider = MCPTokenProvider(gate=StaticGate(on=False), clock=clock, token_source=source)
    assert provider.status().outcome is Outcome.FLAG_OFF
    assert source.asked == []


def test_a_gate_that_answers_per_call_does_not_have_it_asked_at_each_call(
    source: Source, clock: FakeClock
) -> None:
    """Its lease is that of the token; also if the token is opaque."""

    class PerCall(StaticGate):
        per_call = True

    source.make = source.opaque
    provider = MCPTokenProvider(gate=PerCall(), clock=clock, token_source=source)
    assert {provider.token() for _ in range(10)} == {"opaque-1"}
    clock.advance(1)
    assert provider.token() == "opaque-2"


class AsyncSource:
    """Notes the event loop on which it runs."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.users: list[str] = []

    async def __call__(self, audience: str) -> str | None:
        self.loops.append(asyncio.get_running_loop())
        self.users.append(USER.get())
        await asyncio.sleep(0)
        return await asyncio.get_running_loop().run_in_executor(None, self.source, audience)


def test_an_async_source_runs_on_one_event_loop_of_a_thread_of_this_library(
    source: Source, clock: FakeClock
) -> None:
    """The same each time, whoever calls, so that its clients can be kept; it knows no caller."""
    source.make = source.opaque
    asked = AsyncSource(source)
    provider = provider_of(asked, clock)
    USER.set("ann")
    assert provider.token() == "opaque-1"
    clock.advance(1)
    assert asyncio.run(provider.token_async()) == "opaque-2"
    clock.advance(1)
    assert trio.run(provider.token_async) == "opaque-3"
    assert len(set(asked.loops)) == 1
    assert asked.users == ["nobody"] * 3


def test_a_cancelled_source_has_failed(clock: FakeClock) -> None:
    """As one that raises; its thread goes on."""

    async def cancelled(_: str) -> str:
        raise asyncio.CancelledError

    provider = provider_of(cancelled, clock)
    for _ in range(2):
        assert provider.token() is None
        assert provider.status().reason.endswith("raised RuntimeError")
        clock.advance(1)


def test_its_event_loop_is_closed_with_the_provider(source: Source, clock: FakeClock) -> None:
    """No descriptor is left, and no warning."""
    asked = AsyncSource(source)
    assert provider_of(asked, clock).token() is not None
    gc.collect()
    assert asked.loops[0].is_closed()


@pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)])
def test_an_event_loop_goes_on_while_a_slow_source_is_asked(
    source: Source, provider: MCPTokenProvider, run: Callable[[Any], Any]
) -> None:
    """Another task lets the source answer."""
    source.go.clear()

    async def in_asyncio() -> str | None:
        asyncio.get_running_loop().call_later(0.01, source.go.set)
        return await provider.token_async()

    async def in_trio() -> str | None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, source.go.set)
            return await provider.token_async()

    assert run(in_asyncio() if run is asyncio.run else in_trio()) == source.given[0]


def test_a_synchronous_call_hardly_blocks_its_event_loop(
    source: Source, provider: MCPTokenProvider
) -> None:
    """It goes on without a token."""
    source.go.clear()

    async def main() -> str | None:
        return provider.token()

    began = time.monotonic()
    assert asyncio.run(main()) is None
    assert time.monotonic() - began < FIRST_WAIT / 2


def test_a_caller_can_bound_the_wait_for_flag_and_source_together(
    source: Source, provider: MCPTokenProvider
) -> None:
    """What waits for them counts towards a deadline."""
    source.go.clear()
    began = time.monotonic()
    assert provider.decision(max_wait=0.01).token is None
    assert asyncio.run(provider.decision_async(max_wait=0.01)).token is None
    assert time.monotonic() - began < FIRST_WAIT / 2


FORKING = """
import asyncio, os
from manor_mcp_interceptors import MCPTokenProvider, Settings, _asking

_asking.WAIT = 10.0  # a busy machine answers late
loops = []

async def source(audience):
    loops.append(asyncio.get_running_loop())
    # Needs what wakes the loop from another thread.
    return await loops[-1].run_in_executor(None, lambda: f"opaque-{len(loops)}")

class Gate:
    blocking = False
    def is_enabled(self, key, *, subject):
        return True

settings = Settings(recheck_seconds=0)
provider = MCPTokenProvider(settings, gate=Gate(), token_source=source)
tokens = [provider.token()]
child = os.fork()
tokens.append(provider.token())
if child == 0:
    os._exit(0 if tokens[1] == "opaque-2" and loops[1] is not loops[0] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
tokens.append(provider.token())
assert tokens == ["opaque-1", "opaque-2", "opaque-3"] and len(set(loops)) == 1
"""


@pytest.mark.untraced
def test_a_forked_child_asks_on_an_event_loop_of_its_own() -> None:
    """And leaves that of its parent as it is."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


AT_EXIT = """
import asyncio
from manor_mcp_interceptors import MCPTokenProvider, Settings

async def source(audience):
    await asyncio.sleep(60)

class Gate:
    blocking = False
    def is_enabled(self, key, *, subject):
        return True

MCPTokenProvider.configure(settings=Settings(), gate=Gate(), token_source=source)
assert MCPTokenProvider.get_instance().decision(max_wait=0.1).token is None
"""


def test_a_hanging_source_does_not_keep_the_process_from_ending() -> None:
    """Nothing but its log line is printed."""
    command = [sys.executable, "-c", AT_EXIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    line = "MCP auth source_failed: token_source (source) gave no answer in time\n"
    assert (done.returncode, done.stderr) == (0, line)
