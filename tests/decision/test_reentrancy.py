"""A call in the middle of anything: from a finalizer, a signal handler, on the thread it stops."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, get_token
from manor_mcp_interceptors._decision.configuration import Configuration
from manor_mcp_interceptors._decision.decide import Flight
from manor_mcp_interceptors._flags import evaluation
from manor_mcp_interceptors.provider import _registry
from tests.support import SECRET, FakeClock, StaticGate

LOCKS: dict[str, Callable[[Configuration], Any]] = {
    "the registry's": lambda _: _registry.lock,
    "the set-up's, which is the providers'": lambda setup: setup.lock,
    "the questions'": lambda setup: setup.flags._wake,
    "the log limiter's": lambda setup: setup.flags._trouble._lock,
}


class Unsure(StaticGate):
    """Is asked on a worker thread, and fails every other time."""

    blocking = True

    def is_enabled(self, key: str, *, subject: str) -> bool:
        super().is_enabled(key, subject=subject)
        if len(self.asked) % 2:
            raise RuntimeError("boom")
        return True


@pytest.mark.parametrize("gate", [StaticGate, Unsure])
@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_no_thread_waits_for_itself(
    lock: Callable[[Configuration], Any],
    gate: Callable[[], Any],
    env_on: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever lock it holds, every kind of call comes back."""
    monkeypatch.setattr(evaluation, "FIRST_WAIT", 0.05)
    MCPTokenProvider.configure(settings=Settings(secret=SECRET, recheck_seconds=0), gate=gate())
    provider = MCPTokenProvider.get_instance()
    provider.token()

    def call() -> None:
        with lock(provider._setup):
            for audience in (None, "new-mcp"):
                token = get_token(audience)
            assert token is not None
            MCPTokenProvider.get_instance().invalidate(token)
            provider._setup.flags.changed()
            MCPTokenProvider.configure()
        done.append(True)

    done: list[bool] = []
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    caller.join(20)
    assert done


CALLS_FROM_WITHIN = """
import faulthandler, gc, signal, sys
from manor_mcp_interceptors import MCPTokenProvider, Settings, get_token
from manor_mcp_interceptors.testing import StaticGate

faulthandler.dump_traceback_later(50, exit=True)
MCPTokenProvider.configure(settings=Settings(secret="s" * 40, recheck_seconds=0), gate=StaticGate())
get_token()
calls = 0

def call(*_):
    global calls
    calls += 1
    assert get_token() is not None

class Garbage:
    def __init__(self):
        self.me = self
    __del__ = call

if sys.argv[1] == "finalizer":
    gc.set_threshold(23)
    for _ in range(5_000):
        Garbage()
        get_token()
else:
    rings = [False]

    def ring(*_):
        if not rings[0]:  # a slow machine would nest them without end
            rings[0] = True
            call()
            rings[0] = False
        signal.setitimer(signal.ITIMER_REAL, 1e-6 * (calls % 200 + 1))

    signal.signal(signal.SIGALRM, ring)
    ring()
    while calls < 2_000:
        get_token()
    signal.signal(signal.SIGALRM, lambda *_: None)  # not SIG_IGN, which complains of a late one
print(calls > 1_000)
"""


@pytest.mark.parametrize("where", ["finalizer", "signal handler"])
def test_a_call_from_within_a_call(where: str) -> None:
    """Thousands, at every place where Python lets one in."""
    if where == "signal handler" and not hasattr(signal, "setitimer"):
        pytest.skip("Windows")
    command = [sys.executable, "-c", CALLS_FROM_WITHIN, where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_provider_that_is_made_while_others_are_forgotten_is_not(
    settings: Settings, clock: FakeClock
) -> None:
    """A finalizer may make one in the middle of the sweep: it hears of events, too."""
    gate = StaticGate()
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    setup = provider._setup
    made: list[MCPTokenProvider] = []

    def gone() -> None:
        if not made:
            made.append(provider.for_audience("new-mcp"))

    setup._providers += [gone] * 100  # type: ignore[list-item]
    other = provider.for_audience("other-mcp")
    assert len(setup._providers) == 3
    assert [each.token() is not None for each in (*made, other)] == [True, True]
    gate.on = False
    setup.flags.changed()
    assert [each.token() for each in (*made, other)] == [None, None]


def test_who_waits_for_a_decision_holds_nothing_that_another_needs() -> None:
    """All go on at once when it has landed; later ones, and the one that makes it, do not wait."""
    flight = Flight()
    flight.wait(60)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(flight.wait, 60) for _ in range(4)]
        flight.land()
        for each in waiting:
            each.result(10)
        pool.submit(flight.wait, 60).result(10)
