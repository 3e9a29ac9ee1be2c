"""A call in the middle of another: from a finalizer, a signal handler, on the thread it stops."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

import manor_mcp_interceptors
from manor_mcp_interceptors import MCPTokenProvider, Settings
from tests.support import FakeClock, StaticGate

PACKAGE = str(Path(manor_mcp_interceptors.__file__).parent)

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


@pytest.mark.slow
@pytest.mark.parametrize("where", ["finalizer", "signal handler"])
def test_a_call_from_within_a_call(where: str) -> None:
    """Thousands, at every place where Python lets one in."""
    if where == "signal handler" and not hasattr(signal, "setitimer"):
        pytest.skip("Windows")
    command = [sys.executable, "-c", CALLS_FROM_WITHIN, where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")


class Interrupt(BaseException):
    """What a signal handler raises."""


def interrupted(call: Callable[[], object], at: int) -> bool:
    """Interrupt `call` at the moment number `at`; return whether it has so many.

    Python runs signal handlers when a function begins and when one in C has returned.
    """
    moments = itertools.count(1)

    def raise_once(frame: FrameType, event: str, _: object) -> None:
        if event not in {"call", "c_return"} or PACKAGE not in frame.f_code.co_filename:
            return
        if next(moments) == at:
            sys.setprofile(None)
            raise Interrupt

    sys.setprofile(raise_once)
    try:
        call()
    except Interrupt:
        pass
    finally:
        sys.setprofile(None)
    return next(moments) > at


@pytest.mark.parametrize("step", ["the first call", "the next call", "a refusal"])
def test_an_exception_out_of_a_signal_handler_leaves_nothing_half_done(
    settings: Settings, step: str
) -> None:
    """At whatever moment it comes, another thread's next call decides again, without a wait."""
    for at in itertools.count(1):
        clock, gate = FakeClock(), StaticGate()
        provider = MCPTokenProvider(settings, gate=gate, clock=clock)
        call: Callable[[], object] = provider.token
        if step != "the first call":
            token = provider.token() or ""
            clock.advance(60)
            call = call if step == "the next call" else partial(provider.invalidate, token)
        if not interrupted(call, at):
            break
        gate.on = False
        clock.advance(60)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(provider.token).result(2) is None
    assert at > 10
