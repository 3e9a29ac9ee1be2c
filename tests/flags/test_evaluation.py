"""A gate that is slower than its callers wait: all its answers count, and no call hangs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
import trio

from manor_mcp_interceptors import MCPTokenProvider, Settings, _asking
from manor_mcp_interceptors._flags import evaluation
from manor_mcp_interceptors._flags.evaluation import FlagEvaluator
from manor_mcp_interceptors._flags.gates import FlagQuestion
from tests.support import FakeClock, StaticGate
from tests.support.eventually import eventually

USER: ContextVar[str] = ContextVar("USER")


class SlowGate:
    """Once `slow`, takes until `answer` for each question, in the order in which they are asked."""

    def __init__(self) -> None:
        self.on = True
        self.slow = False
        self.asked = 0
        self.answered = 0
        self.on_asked: Callable[[], None] | None = None
        self._go = threading.Semaphore(0)

    def is_enabled(self, key: str, *, subject: str) -> bool:
        self.asked += 1
        if self.on_asked is not None:
            self.on_asked()
        if self.slow:
            assert self._go.acquire(timeout=30)
        self.answered += 1
        return self.on

    def watch(self, notify: Callable[[], None]) -> None:
        self.notify = notify

    def answer(self, times: int = 1) -> None:
        self._go.release(times)


@pytest.fixture
def gate() -> Iterator[SlowGate]:
    made = SlowGate()
    yield made
    made.slow = False
    made.answer(1000)


@pytest.fixture
def provider(gate: SlowGate, clock: FakeClock, settings: Settings) -> MCPTokenProvider:
    return MCPTokenProvider(settings, gate=gate, clock=clock)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer takes longer than a call waits that knows an earlier one."""
    monkeypatch.setattr(_asking, "WAIT", 0.0)


def call_as(user: str, provider: MCPTokenProvider) -> str | None:
    USER.set(user)
    return provider.token()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("audiences", [1, 2, 5])
def test_the_flag_turned_off_reaches_every_audience(
    gate: SlowGate, provider: MCPTokenProvider, clock: FakeClock, audiences: int
) -> None:
    """Also if each asks, lease by lease, while the gate has the question of another."""
    everyone = [provider, *(provider.for_audience(f"{n}-mcp") for n in range(1, audiences))]
    assert None not in [each.token() for each in everyone]
    gate.slow, gate.on = True, False
    clock.advance(1)
    assert provider.token() is not None  # the last known answer
    assert eventually(lambda: gate.asked == audiences + 1)
    assert None not in [each.token() for each in everyone]
    gate.answer(audiences)
    assert eventually(lambda: [each.token() for each in everyone] == [None] * audiences)


@pytest.mark.usefixtures("impatient")
def test_a_hanging_gate_has_one_question_per_audience_pending(
    gate: SlowGate, provider: MCPTokenProvider, clock: FakeClock
) -> None:
    """However many calls there are, and events that end their leases."""
    other = provider.for_audience("other-mcp")
    assert None not in (provider.token(), other.token())
    gate.slow = True
    clock.advance(1)
    provider.token()
    assert eventually(lambda: gate.asked == 3)
    for _ in range(20):
        gate.notify()  # the question at the gate is older than the event, the others are not
        assert None not in (provider.token(), other.token())
    gate.answer(1000)
    assert eventually(lambda: gate.answered == 5)
    assert gate.asked == 5


def test_a_hanging_gate_with_many_audiences_has_a_bounded_queue(
    gate: SlowGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further questions get the last known answer."""
    monkeypatch.setattr(_asking, "MAX_PENDING", 10)
    monkeypatch.setattr(_asking, "FIRST_WAIT", 0.0)
    gate.slow = True
    flags = FlagEvaluator(gate, lambda: None)
    for number in range(1000):
        answer = flags.ask(FlagQuestion("flag", "s", "i", str(number)))
        assert (answer.enabled, answer.problem) == (False, "no answer in time")
    gate.answer(1000)
    assert eventually(lambda: gate.answered == 10)


@pytest.mark.usefixtures("impatient")
def test_a_new_audience_waits_for_a_gate_that_is_merely_slow(
    gate: SlowGate, provider: MCPTokenProvider, clock: FakeClock
) -> None:
    """Its first decision is the gate's, not that of the environment, which is off."""
    other = provider.for_audience("other-mcp")
    assert provider.token() is not None
    gate.slow = True
    clock.advance(1)
    provider.token()
    assert eventually(lambda: gate.asked == 2)
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(other.token)
        gate.answer(2)
        assert got.result(30) is not None


class PerCallGate:
    """Answers for the user of the call, and notes the thread that asks."""

    per_call = True

    def __init__(self) -> None:
        self.works = True
        self.threads: list[threading.Thread] = []

    def is_enabled(self, key: str, *, subject: str) -> bool:
        self.threads.append(threading.current_thread())
        if not self.works:
            raise RuntimeError("boom")
        return USER.get() == "ann"

    def caller(self) -> str | None:
        return USER.get()


def test_per_call_each_user_has_a_last_known_answer(clock: FakeClock, settings: Settings) -> None:
    """When the gate fails, the answer for another user does not stand."""
    gate = PerCallGate()
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    for gate.works in (True, False):
        answers = [call_as(user, provider) is not None for user in ("ann", "bob", "ann")]
        assert answers == [True, False, True]


@pytest.mark.parametrize("caller", [lambda _: 1 / 0, lambda _: ["unhashable"]])
def test_per_call_a_caller_that_cannot_be_told_breaks_no_call(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caller: Any
) -> None:
    """Then the last known answer is that of any user."""
    monkeypatch.setattr(PerCallGate, "caller", caller)
    gate = PerCallGate()
    provider = MCPTokenProvider(settings, gate=gate)
    for gate.works in (True, False):
        assert call_as("ann", provider) is not None


def test_per_call_the_gate_is_asked_on_the_thread_of_the_caller(settings: Settings) -> None:
    """Async callers ask it in a worker thread, which has their context variables."""
    gate = PerCallGate()
    provider = MCPTokenProvider(settings, gate=gate)

    async def main() -> list[str | None]:
        got = []
        for user in ("ann", "bob"):
            USER.set(user)
            got.append(await provider.token_async())
        return got

    for run in (asyncio.run, lambda main: trio.run(lambda: main)):
        gate.threads.clear()
        token, refused = run(main())
        assert token is not None
        assert refused is None
        assert threading.main_thread() not in gate.threads
    gate.threads.clear()
    assert call_as("ann", provider) is not None
    assert set(gate.threads) == {threading.main_thread()}


def test_per_call_the_status_agrees_with_itself(settings: Settings) -> None:
    """Outcome and flag are of one answer, whoever has asked before."""
    provider = MCPTokenProvider(settings, gate=PerCallGate())
    for user, outcome in (("ann", "ok"), ("bob", "flag_off"), ("ann", "ok")):
        USER.set(user)
        status = provider.status()
        assert (status.outcome, status.flag_enabled) == (outcome, user == "ann")


def in_asyncio(main: Callable[[], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        return await main()

    return asyncio.run(run())


@pytest.mark.parametrize("run", [in_asyncio, trio.run])
def test_an_event_loop_goes_on_while_a_slow_gate_is_asked(
    gate: SlowGate,
    settings: Settings,
    run: Callable[[Callable[[], Awaitable[Any]]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first call waits for the answer, and no longer; other tasks run meanwhile."""
    monkeypatch.setattr(_asking, "FIRST_WAIT", 10.0)
    began = time.monotonic()
    provider = MCPTokenProvider(settings, gate=gate)
    gate.slow = True
    sleep: Any = trio.sleep if run is trio.run else asyncio.sleep
    ticks = 0

    async def ticking() -> None:
        nonlocal ticks
        while ticks < 5:
            await sleep(0.001)
            ticks += 1
        gate.answer()

    async def in_trio() -> str | None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticking)
            return await provider.token_async()

    async def in_loop() -> str | None:
        task = asyncio.ensure_future(ticking())
        token = await provider.token_async()
        await task
        return token

    assert run(in_trio if run is trio.run else in_loop) is not None
    assert ticks == 5
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("run", [in_asyncio, trio.run])
def test_a_synchronous_call_hardly_blocks_its_event_loop(
    gate: SlowGate, settings: Settings, run: Callable[[Callable[[], Awaitable[Any]]], Any]
) -> None:
    """It does not wait for a first answer as a thread does."""
    provider = MCPTokenProvider(settings, gate=gate)
    gate.slow = True

    async def main() -> str | None:
        return provider.token()

    began = time.monotonic()
    assert run(main) is None
    assert time.monotonic() - began < _asking.FIRST_WAIT


def test_a_caller_can_bound_the_wait(gate: SlowGate, settings: Settings) -> None:
    """What waits for a slow flag counts towards a deadline."""
    provider = MCPTokenProvider(settings, gate=gate)
    gate.slow = True
    began = time.monotonic()
    assert provider.decision(max_wait=0.01).token is None
    assert asyncio.run(provider.decision_async(max_wait=0.01)).token is None
    assert time.monotonic() - began < _asking.FIRST_WAIT


def test_a_busy_event_loop_does_not_lengthen_the_wait(gate: SlowGate, settings: Settings) -> None:
    """A coroutine that waits for the flag counts seconds, not rounds of its loop."""
    provider = MCPTokenProvider(settings, gate=gate)
    gate.slow = True

    async def busy() -> None:
        while True:
            time.sleep(0.01)  # noqa: ASYNC251 - it blocks the loop, as a busy application does
            await asyncio.sleep(0)

    async def main() -> float:
        task = asyncio.ensure_future(busy())
        began = time.monotonic()
        assert (await provider.decision_async(max_wait=0.1)).token is None
        task.cancel()
        return time.monotonic() - began

    assert asyncio.run(main()) < 0.3


@pytest.mark.parametrize("is_async", [False, True])
def test_within_a_lease_nothing_is_asked_and_at_its_end_the_flag_is(
    clock: FakeClock, settings: Settings, is_async: bool
) -> None:
    """An async caller notices a flag that was turned off as soon as a sync one does."""
    gate = StaticGate()
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)

    def token() -> str | None:
        return asyncio.run(provider.token_async()) if is_async else provider.token()

    assert token() is not None
    gate.on = False
    clock.advance(0.99)
    assert [token() is None for _ in range(3)] == [False] * 3
    assert len(gate.asked) == 1
    clock.advance(0.01)
    assert token() is None


def test_a_gate_that_makes_a_call_itself_gets_the_environments_answer(
    gate: SlowGate, provider: MCPTokenProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the thread that asks it, for the very answer that it is about to give."""
    monkeypatch.setattr(_asking, "FIRST_WAIT", 0.2)
    got: list[str | None] = []
    gate.on_asked = lambda: got.append(provider.token())
    provider.token()
    assert eventually(lambda: got == [None])


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, RuntimeError])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_a_gate_raises_the_next_question_is_asked(
    clock: FakeClock,
    settings: Settings,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker thread that has ended is replaced."""
    monkeypatch.setattr(_asking, "FIRST_WAIT", 0.2)

    class Raising(SlowGate):
        def is_enabled(self, key: str, *, subject: str) -> bool:
            if super().is_enabled(key, subject=subject) and self.asked == 1:
                raise error
            return True

    provider = MCPTokenProvider(settings, gate=Raising(), clock=clock)
    assert provider.token() is None
    clock.advance(1)
    assert provider.token() is not None


@pytest.mark.slow
def test_threads_share_what_is_known_and_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answer makes room, whatever another thread does to the same dict."""
    monkeypatch.setattr(evaluation, "MAX_KNOWN", 4)

    class Failing(StaticGate):
        def is_enabled(self, key: str, *, subject: str) -> bool:
            if not self.on:
                raise RuntimeError("boom")
            return super().is_enabled(key, subject=subject)

    gate = Failing()
    flags = FlagEvaluator(gate, lambda: None)
    questions = [FlagQuestion("flag", "s", "i", str(number)) for number in range(20_000)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(answer.enabled for answer in pool.map(flags.ask, questions, chunksize=50))
    finally:
        sys.setswitchinterval(interval)
    gate.on = False
    assert sum(flags.ask(question).enabled for question in questions) == 4


def test_a_gate_that_fails_now_and_then_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clock: FakeClock
) -> None:
    """A failure and a recovery at most once a minute each; the state that lasts is logged."""
    caplog.set_level("INFO", "manor_mcp_interceptors")
    monkeypatch.setattr(evaluation, "time", clock)

    class Flapping(StaticGate):
        def is_enabled(self, key: str, *, subject: str) -> bool:
            self.asked.append((key, subject))
            if self.on:
                raise RuntimeError("boom")
            return True

    gate = Flapping()
    flags = FlagEvaluator(gate, lambda: None)
    question = FlagQuestion("flag", "s", "i", "a")
    for _ in range(50):
        gate.on = not gate.on
        flags.ask(question)
    lines = [record.getMessage() for record in caplog.records]
    failed = "flag backend failed (RuntimeError: boom): the last known answer stands"
    assert lines == [failed, "flag backend answers again"]
    clock.advance(evaluation.LOG_SECONDS)
    flags.ask(question)
    assert [record.getMessage() for record in caplog.records[2:]] == [failed]


def test_a_worker_without_questions_ends(
    gate: SlowGate, provider: MCPTokenProvider, clock: FakeClock
) -> None:
    """The next question starts another one."""
    threads = set(threading.enumerate())
    for count in (1, 2):
        assert provider.token() is not None
        assert eventually(lambda: set(threading.enumerate()) <= threads)
        assert gate.asked == count
        clock.advance(1)


AT_EXIT = """
import gc
from manor_mcp_interceptors import MCPTokenProvider, Settings, get_auth_headers

class Gate:
    def is_enabled(self, key, *, subject):
        return True

MCPTokenProvider.configure(settings=Settings(secret="s" * 40, recheck_seconds=0), gate=Gate())
get_auth_headers()

class Garbage:
    def __init__(self):
        self.me = self
    def __del__(self, call=get_auth_headers):
        call()

kept = Garbage()
gc.disable()
"""


def test_no_thread_is_started_while_the_interpreter_ends() -> None:
    """A finalizer that makes a call must not keep the process from ending."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (0, "", False)
