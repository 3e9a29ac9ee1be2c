"""A gate that is slower than its callers are patient: all its answers count, and nobody hangs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings
from manor_mcp_interceptors._flags import evaluation
from manor_mcp_interceptors._flags.evaluation import FlagPoll
from manor_mcp_interceptors._flags.gates import FlagQuestion
from manor_mcp_interceptors._telemetry import flag_trouble
from manor_mcp_interceptors._telemetry.flag_trouble import FlagTrouble
from tests.support import FakeClock, StaticGate
from tests.support.eventually import eventually

USER: ContextVar[str] = ContextVar("USER")


class SlowGate:
    """Once `slow`, takes until `answer` for each question, in the order in which they are put."""

    def __init__(self, *, per_call: bool = False) -> None:
        self.per_call = per_call
        self.on = True
        self.slow = False
        self.asked: list[str] = []
        self.on_asked: Callable[[], None] | None = None
        self._go = threading.Semaphore(0)

    def is_enabled(self, key: str, *, subject: str) -> bool:
        self.asked.append(USER.get(subject))
        if self.on_asked is not None:
            self.on_asked()
        if self.slow:
            assert self._go.acquire(timeout=30)
        return self.on

    def caller(self) -> str | None:
        return USER.get(None)

    def answer(self, times: int = 1) -> None:
        self._go.release(times)


@pytest.fixture(params=[False])
def gate(request: pytest.FixtureRequest) -> Iterator[SlowGate]:
    made = SlowGate(per_call=request.param)
    yield made
    made.slow = False
    made.answer(1000)


per_call = pytest.mark.parametrize("gate", [True], indirect=True)


@pytest.fixture
def provider(gate: SlowGate, clock: FakeClock, settings: Settings) -> MCPTokenProvider:
    return MCPTokenProvider(settings, gate=gate, clock=clock)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer takes longer than anybody waits who has one."""
    monkeypatch.setattr(evaluation, "WAIT", 0.0)


def is_idle(flags: FlagPoll) -> bool:
    with flags._wake:
        return flags._running is None and not flags._jobs


def is_running(flags: FlagPoll, queued: int = 0) -> bool:
    with flags._wake:
        return flags._running is not None and len(flags._jobs) == queued


def call_as(user: str, provider: MCPTokenProvider) -> str | None:
    USER.set(user)
    return provider.token()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("audiences", [1, 2, 5])
def test_the_flag_turned_off_reaches_every_audience(
    gate: SlowGate, provider: MCPTokenProvider, clock: FakeClock, audiences: int
) -> None:
    """Also where each asks, lease by lease, while the gate is at another's question."""
    flags = provider._setup.flags
    others = [provider.for_audience(f"{number}-mcp") for number in range(1, audiences)]
    assert all(each.token() is not None for each in (provider, *others))
    gate.slow, gate.on = True, False
    clock.advance(1)
    assert provider.token() is not None  # the last known answer
    assert eventually(lambda: is_running(flags))
    for each in others:
        assert each.token() is not None
    gate.answer(audiences)
    assert eventually(lambda: is_idle(flags))
    assert [each.token() for each in (provider, *others)] == [None] * audiences


@pytest.mark.usefixtures("impatient")
def test_a_hanging_gate_gathers_one_question_for_each_audience(
    gate: SlowGate, provider: MCPTokenProvider, clock: FakeClock
) -> None:
    """However many calls there are, and events that end their leases."""
    flags, other = provider._setup.flags, provider.for_audience("other-mcp")
    assert None not in (provider.token(), other.token())
    gate.slow = True
    clock.advance(1)
    provider.token()
    assert eventually(lambda: is_running(flags))
    for _ in range(20):
        flags.changed()  # the question at the gate is from before it, the others are not
        assert None not in (provider.token(), other.token())
    assert len(flags._jobs) == 2
    assert len(gate.asked) == 3


@pytest.mark.usefixtures("impatient")
def test_a_new_audience_waits_for_a_gate_that_is_merely_slow(
    gate: SlowGate, provider: MCPTokenProvider, clock: FakeClock
) -> None:
    """Its first decision is the gate's, and not the environment's, which is off."""
    flags, other = provider._setup.flags, provider.for_audience("other-mcp")
    assert provider.token() is not None
    gate.slow = True
    clock.advance(1)
    provider.token()
    assert eventually(lambda: is_running(flags))
    got: list[str | None] = []
    caller = threading.Thread(target=lambda: got.append(other.token()))
    caller.start()
    assert eventually(lambda: is_running(flags, queued=1) or bool(got))
    gate.answer(2)
    caller.join()
    assert got != [None]


@per_call
@pytest.mark.usefixtures("impatient")
def test_per_call_a_new_user_waits_for_a_gate_that_is_merely_slow(
    gate: SlowGate, provider: MCPTokenProvider
) -> None:
    """How long another has waited for it says nothing of the gate."""
    flags = provider._setup.flags
    assert call_as("ann", provider) is not None
    gate.slow = True
    assert call_as("ann", provider) is not None
    assert eventually(lambda: is_running(flags))
    got: list[str | None] = []
    caller = threading.Thread(target=lambda: got.append(call_as("bob", provider)))
    caller.start()
    assert eventually(lambda: is_running(flags, queued=1) or bool(got))
    gate.answer(2)
    caller.join()
    assert got != [None]
    assert gate.asked == ["ann", "ann", "bob"]


@per_call
@pytest.mark.usefixtures("impatient")
def test_per_call_the_flag_turned_off_reaches_every_user(
    gate: SlowGate, provider: MCPTokenProvider
) -> None:
    """One question of each stays queued when they have gone on without its answer."""
    flags = provider._setup.flags
    assert None not in [call_as(user, provider) for user in ("ann", "bob")]
    gate.slow, gate.on = True, False
    assert call_as("ann", provider) is not None
    assert eventually(lambda: is_running(flags))
    assert None not in [call_as("bob", provider) for _ in range(5)]
    gate.answer(2)
    assert eventually(lambda: is_idle(flags))
    assert gate.asked[2:] == ["ann", "bob"]
    assert [call_as(user, provider) for user in ("ann", "bob")] == [None, None]


@per_call
@pytest.mark.usefixtures("impatient")
def test_per_call_a_hanging_gate_costs_no_call(
    gate: SlowGate, provider: MCPTokenProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as hanging after a first wait; until then a few questions gather, not one each."""
    flags = provider._setup.flags
    users = [f"user-{number}" for number in range(50)]
    assert None not in [call_as(user, provider) for user in users]
    gate.slow = True
    assert call_as("user-0", provider) is not None
    assert eventually(lambda: is_running(flags))
    for user in users:
        assert call_as(user, provider) is not None
    queued = len(flags._jobs)
    assert 0 < queued <= evaluation.MAX_LEFT
    monkeypatch.setattr(evaluation, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(evaluation, "MAX_LEFT", 100)
    for user in [*users, "new"]:
        call_as(user, provider)
    assert len(flags._jobs) == queued


def test_a_call_that_the_gate_itself_makes_waits_for_none(
    gate: SlowGate, provider: MCPTokenProvider
) -> None:
    """On the thread that asks it, for the very answer that it is about to give."""
    got: list[str | None] = []
    began = time.monotonic()
    gate.on_asked = lambda: got.append(provider.token())
    assert provider.token() is not None
    assert got == [None]  # the environment's word, for want of an answer
    assert time.monotonic() - began < evaluation.FIRST_WAIT


def test_threads_share_what_is_known_and_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answer makes room, whatever another thread is doing to the same dict."""
    monkeypatch.setattr(evaluation, "MAX_KNOWN", 4)
    flags = FlagPoll(StaticGate(), lambda: None)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            questions = [FlagQuestion("flag", "s", "i", str(number)) for number in range(20_000)]
            assert all(answer.enabled for answer in pool.map(flags.ask, questions, chunksize=50))
    finally:
        sys.setswitchinterval(interval)
    assert len(flags._known) == 4
    flags.ask(questions[0])
    assert questions[0] in flags._known
    assert len(flags._known) == 4


def test_per_call_each_user_keeps_an_answer_of_their_own(
    clock: FakeClock, settings: Settings
) -> None:
    """When the gate fails, it is not another's that stands."""

    class Beta:
        per_call, blocking = True, False
        works = True

        def is_enabled(self, key: str, *, subject: str) -> bool:
            if not self.works:
                raise RuntimeError("boom")
            return USER.get() == "ann"

        def caller(self) -> str | None:
            return USER.get()

    gate = Beta()
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    for gate.works in (True, False):
        answers = [call_as(user, provider) is not None for user in ("ann", "bob", "ann")]
        assert answers == [True, False, True]


def test_a_gate_that_fails_now_and_then_does_not_fill_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, clock: FakeClock
) -> None:
    """A few lines in a row, then one a minute; and the last one says what holds."""
    caplog.set_level("INFO", "manor_mcp_interceptors")
    monkeypatch.setattr(flag_trouble, "time", clock)
    trouble = FlagTrouble()
    for _ in range(50):
        trouble.say("boom")
        trouble.say(None)
    assert len(caplog.records) == flag_trouble.LINES
    clock.advance(flag_trouble.LINE_SECONDS)
    trouble.say("boom")
    trouble.say(None)
    assert [record.getMessage() for record in caplog.records[flag_trouble.LINES :]] == ["boom"]


def test_an_idle_worker_ends_and_the_next_question_starts_another(
    gate: SlowGate,
    provider: MCPTokenProvider,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gate that nobody asks any more costs no thread."""
    monkeypatch.setattr(evaluation, "IDLE_SECONDS", 0.01)
    threads = set(threading.enumerate())
    assert provider.token() is not None
    assert eventually(lambda: set(threading.enumerate()) <= threads)
    clock.advance(1)
    assert provider.token() is not None
    assert len(gate.asked) == 2
