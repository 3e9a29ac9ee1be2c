"""The flag through OpenFeature: whom it is asked for, and what is not an answer."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from openfeature.transaction_context import ContextVarsTransactionContextPropagator

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    Settings,
    _asking,
    diagnose,
    get_token,
)
from manor_mcp_interceptors._flags.evaluation import FlagEvaluator
from manor_mcp_interceptors._flags.gates import FlagQuestion
from manor_mcp_interceptors._flags.openfeature_gate import OpenFeatureGate
from manor_mcp_interceptors.protocols import NoAnswerError
from tests.support import FLAG, SECRET, FakeClock
from tests.support.eventually import eventually
from tests.support.openfeature_provider import ToldProvider, set_provider_and_wait

Break = Callable[[ToldProvider], None]


@pytest.fixture(autouse=True)
def openfeature(isolated: None) -> Iterator[None]:
    """Leave OpenFeature as it was: without a provider."""
    yield
    api.clear_providers()  # `shutdown` of older SDKs leaves the provider


@pytest.fixture
def told() -> ToldProvider:
    """Set a provider that is ready."""
    provider = ToldProvider()
    set_provider_and_wait(provider)
    return provider


def make(clock: FakeClock, *, per_call: bool = False, recheck: float = 1) -> MCPTokenProvider:
    settings = Settings(secret=SECRET, subject="service-a", recheck_seconds=recheck)
    return MCPTokenProvider(settings, gate=OpenFeatureGate(per_call=per_call), clock=clock)


def test_the_default_gate_asks_a_provider_that_is_set(env_on: None, told: ToldProvider) -> None:
    """Before the environment, whose answer would be yes."""
    told.on = False
    assert get_token() is None
    assert diagnose().reason == f"flag {FLAG} is off (OpenFeature provider told)"
    context = {"issuer": "manor-internal", "audience": "service-search-mcp"}
    assert told.asked[0] == (FLAG, "service-application", context)


def test_without_a_provider_the_environment_answers(env_on: None) -> None:
    """The SDK's own stand-in is READY and answers your default: it does not count."""
    assert get_token() is not None
    assert diagnose().flag_source.startswith("environment variable")


def test_a_provider_set_later_is_found_and_one_cleared_is_forgotten(
    env_on: None, clock: FakeClock
) -> None:
    """At the next recheck; its events are heard, also after `clear_providers` dropped handlers."""
    MCPTokenProvider.configure(clock=clock)
    assert get_token() is not None
    for _ in range(2):
        provider = ToldProvider(on=False)
        set_provider_and_wait(provider)
        clock.advance(1)
        assert eventually(lambda: get_token() is None)
        provider.turn(on=True)
        assert eventually(lambda: get_token() is not None)
        api.clear_providers()
        clock.advance(1)
        assert diagnose().flag_source.startswith("environment variable")


def test_the_package_imports_no_openfeature() -> None:
    """An application that does not use it pays nothing for it."""
    code = (
        "import sys, manor_mcp_interceptors as m; m.get_token();"
        "sys.exit(any(name.startswith('openfeature') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("per_call", [False, True])
def test_whom_the_flag_is_asked_for(
    clock: FakeClock, told: ToldProvider, per_call: bool, use_async: bool
) -> None:
    """For the service; per call for the user, where the transaction context names one."""
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    provider = make(clock, per_call=per_call)

    async def call() -> str | None:
        api.set_transaction_context(EvaluationContext("user-7", {"plan": "gold"}))
        return await provider.token_async() if use_async else provider.token()

    assert asyncio.run(call()) is not None
    service = {"issuer": "manor-internal", "audience": "service-search-mcp", "plan": "gold"}
    if per_call:
        assert told.asked == [(FLAG, "user-7", {**service, "subject": "service-a"})]
    else:
        assert told.asked == [(FLAG, "service-a", service)]


def test_per_call_each_user_has_an_answer_of_their_own(clock: FakeClock) -> None:
    """Nothing is leased from one to the next; one token serves all who are in."""

    def in_the_beta(
        flag: InMemoryFlag[bool], context: EvaluationContext
    ) -> FlagResolutionDetails[bool]:
        return FlagResolutionDetails(context.targeting_key in {"ann", "eve"})

    flag = InMemoryFlag("off", {"on": True, "off": False}, context_evaluator=in_the_beta)
    set_provider_and_wait(InMemoryProvider({FLAG: flag}))
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    provider = make(clock, per_call=True)
    tokens = {}
    for user in ("ann", "bob", "eve", "bob", "ann"):
        api.set_transaction_context(EvaluationContext(user))
        tokens[user] = provider.token()
    assert tokens["ann"] == tokens["eve"] is not None
    assert tokens["bob"] is None


def raises(provider: ToldProvider) -> None:
    provider.error = ValueError("backend down")


def reports_an_error(provider: ToldProvider) -> None:
    provider.error_code = ErrorCode.FLAG_NOT_FOUND


def answers_text(provider: ToldProvider) -> None:
    provider.on = "false"


def is_in_error(provider: ToldProvider) -> None:
    provider.on = False
    provider.emit_provider_error(ProviderEventDetails(message="lost"))


def is_fatal(provider: ToldProvider) -> None:
    provider.on = False
    code = ErrorCode.PROVIDER_FATAL
    provider.emit_provider_error(ProviderEventDetails(message="lost", error_code=code))


BREAKS = [raises, reports_an_error, answers_text, is_in_error, is_fatal]


@pytest.mark.slow
@pytest.mark.parametrize("per_call", [False, True])
@pytest.mark.parametrize("broken", BREAKS)
def test_a_failure_leaves_the_last_known_answer(
    clock: FakeClock,
    told: ToldProvider,
    caplog: pytest.LogCaptureFixture,
    broken: Break,
    per_call: bool,
) -> None:
    """And one log line in 10,000 calls, the SDK's own included; one more when it has passed."""
    caplog.set_level(logging.INFO)
    provider = make(clock, per_call=per_call)
    first = provider.token()
    assert first is not None
    broken(told)
    for _ in range(10_000 if per_call else 1_000):
        clock.advance(0.001 if per_call else 1)
        assert provider.token() == first
    assert "last known" in provider.status().flag_source
    assert len([r for r in caplog.records if "flag backend failed" in r.message]) == 1
    assert len(caplog.records) <= 4
    told.error, told.error_code, told.on = None, None, False
    told.emit_provider_ready(ProviderEventDetails())
    clock.advance(1)
    assert eventually(lambda: provider.token() is None)
    assert "flag backend answers again" in caplog.text


@pytest.mark.parametrize("environment", ["on", "off"])
@pytest.mark.parametrize("broken", BREAKS)
def test_before_any_answer_the_environments_stands(
    env_on: None,
    monkeypatch: pytest.MonkeyPatch,
    told: ToldProvider,
    broken: Break,
    environment: str,
) -> None:
    """A provider that never worked is no reason for off, nor for on."""
    monkeypatch.setenv(FLAG.upper(), environment)
    broken(told)
    assert (get_token() is not None) == (environment == "on")


class RaisingClient:
    """A client whose every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize("is_configured", [False, True])
def test_a_client_that_raises_leaves_the_environments_answer(
    env_on: None, monkeypatch: pytest.MonkeyPatch, *, is_configured: bool
) -> None:
    """One of the application's, and one that the SDK hands to the default gates."""
    client: Any = RaisingClient()
    monkeypatch.setattr(api, "get_client", lambda _: client)
    MCPTokenProvider.configure(gate=OpenFeatureGate(client) if is_configured else None)
    assert get_token() is not None
    assert diagnose().flag_enabled


@pytest.mark.skipif(set_provider_and_wait is api.set_provider, reason="SDK before 0.10 waits")
def test_a_provider_that_starts_in_the_background_holds_nobody_up(
    env_on: None, clock: FakeClock, told: ToldProvider
) -> None:
    """Until it is ready the environment answers; its event ends the lease at once."""
    MCPTokenProvider.configure(clock=clock)
    starting = ToldProvider(on=False)
    starting.starting = threading.Event()
    api.set_provider(starting)
    assert get_token() is not None
    assert not starting.asked
    starting.starting.set()
    assert eventually(
        lambda: get_token() is None
    )  # the clock stands still: no lease ends by itself


@pytest.mark.parametrize("event", ["ready", "configuration_changed", "stale", "error"])
def test_every_event_ends_the_lease_at_once(
    clock: FakeClock, told: ToldProvider, event: str
) -> None:
    """The clock stands still: without the event, the lease would never end."""
    provider = make(clock)
    assert provider.token() is not None
    told.on = False
    asked = len(told.asked)
    getattr(told, f"emit_provider_{event}")(ProviderEventDetails())
    if event == "error":  # the status says that what it answers is a guess
        assert eventually(lambda: "last known" in provider.status().flag_source)
        assert provider.token() is not None
    else:
        assert eventually(lambda: provider.token() is None)
        assert len(told.asked) > asked


def test_an_event_outruns_an_evaluation_from_before_it(
    clock: FakeClock, told: ToldProvider
) -> None:
    """It was put to a provider that did not know of the change yet."""
    provider = make(clock)
    told.release = threading.Event()
    early = threading.Thread(target=provider.token)
    early.start()
    assert eventually(lambda: len(told.asked) == 1)
    told.emit_provider_configuration_changed(ProviderEventDetails())
    late: list[str | None] = []
    later = threading.Thread(target=lambda: late.append(provider.token()))
    later.start()
    assert eventually(lambda: later.is_alive())
    told.release.set()
    early.join()
    later.join()
    assert late[0] is not None
    assert len(told.asked) == 2


def test_a_replaced_configuration_is_not_kept_alive(told: ToldProvider) -> None:
    """Its place among the watchers goes with it, though the gate lives on."""
    gate = OpenFeatureGate(blocking=False)
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=gate)
    assert provider.token() is not None
    kinds = (FlagEvaluator, weakref.WeakMethod)
    before = [isinstance(each, kinds) for each in gc.get_objects()].count(True)
    del provider
    gc.collect()
    after = [isinstance(each, kinds) for each in gc.get_objects()].count(True)
    assert after <= before - len(kinds)


def test_a_hanging_provider_costs_one_thread_and_no_call(
    clock: FakeClock, told: ToldProvider
) -> None:
    """One caller waits once; every other goes on with the last known answer at once."""
    provider = make(clock, recheck=0)
    first = provider.token()
    told.release = threading.Event()
    threads = threading.active_count()
    waits: list[float] = []
    for _ in range(500):
        began = time.perf_counter()
        assert provider.token() == first
        waits.append(time.perf_counter() - began)
    assert threading.active_count() <= threads + 1
    told.release.set()
    assert len(told.asked) == 2
    # One waits; a busy machine may make a few others slow.
    assert sorted(waits)[490] < _asking.WAIT


def test_an_event_loop_is_not_held_up_by_a_hanging_provider(
    clock: FakeClock, told: ToldProvider
) -> None:
    """Its other tasks go on while a call waits for the flag, and no call waits twice."""
    provider = make(clock, recheck=0)
    told.release = threading.Event()
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def main() -> int:
        task = asyncio.create_task(other_work())
        first = asyncio.create_task(provider.token_async())
        while not told.asked:  # noqa: ASYNC110 - what another thread does
            await asyncio.sleep(0)
        before = turns
        await first
        during = turns - before
        task.cancel()
        for _ in range(100):
            await provider.token_async()
        return during

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_asking, "FIRST_WAIT", 0.5)
        during = asyncio.run(main())
    assert during > 10
    assert len(told.asked) == 1
    told.release.set()


def test_a_late_answer_counts_as_soon_as_it_is_there(clock: FakeClock, told: ToldProvider) -> None:
    """It ends the lease that was given without it."""
    provider = make(clock)
    first = provider.token()
    told.release = threading.Event()
    told.on = False
    clock.advance(1)
    assert provider.token() == first
    told.release.set()
    assert eventually(lambda: provider.token() is None)


def test_a_domain_has_a_provider_of_its_own(clock: FakeClock, told: ToldProvider) -> None:
    """As OpenFeature's clients do."""
    other = ToldProvider(on=False)
    api.set_provider(other, "search")
    gate = OpenFeatureGate(domain="search")
    assert eventually(lambda: _is_off(gate))
    assert OpenFeatureGate(api.get_client("elsewhere")).is_enabled(FLAG, subject="s") is True
    api.clear_providers()
    with pytest.raises(NoAnswerError, match="no OpenFeature provider is set"):
        gate.is_enabled(FLAG, subject="s")


def _is_off(gate: OpenFeatureGate) -> bool:
    try:
        return not gate.is_enabled(FLAG, subject="s")
    except NoAnswerError:
        return False


def test_a_gate_travels(told: ToldProvider) -> None:
    """Pickled and copied, it asks whichever provider is set where it arrives."""
    gate = OpenFeatureGate(per_call=True, blocking=False)
    question = FlagQuestion(FLAG, "s", "i", "a")
    assert gate.evaluate(question).enabled is True
    for arrived in (pickle.loads(pickle.dumps(gate)), copy.deepcopy(gate)):
        assert (arrived.per_call, arrived.blocking) == (True, False)
        assert arrived.evaluate(question).enabled is True


def test_the_outcome_says_who_decided(clock: FakeClock, told: ToldProvider) -> None:
    """With the provider's name."""
    status = make(clock).status()
    assert status.outcome is Outcome.OK
    assert status.reason == f"flag {FLAG} is on (OpenFeature provider told)"


def test_every_event_is_subscribed_to_once() -> None:
    """However often the provider is replaced, at each of which all are subscribed to."""
    gate = OpenFeatureGate(blocking=False)
    heard: list[None] = []

    def notify() -> None:
        heard.append(None)

    gate.watch(notify)
    for _ in range(3):
        provider = ToldProvider()
        set_provider_and_wait(provider)
        assert gate.is_enabled(FLAG, subject="s")

    def notifications(event: str) -> int:
        heard.clear()
        getattr(provider, f"emit_provider_{event}")(ProviderEventDetails())
        eventually(lambda: bool(heard))
        time.sleep(0.02)  # for a second one, which would come at once
        return len(heard)

    for event in ("configuration_changed", "stale", "error", "ready"):
        # More than once, as a late event of the replaced providers may be among them.
        assert eventually(lambda event=event: notifications(event) == 1)  # type: ignore[misc]
