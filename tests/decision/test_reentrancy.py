"""A call in the middle of another: from a finalizer, a signal handler, on the thread it stops."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

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


INTERRUPTED = """
import signal
from manor_mcp_interceptors import MCPTokenProvider, Settings, get_token
from manor_mcp_interceptors.testing import FakeClock, StaticGate

class Stop(Exception):
    pass

inside = False

def stop(*_):
    if inside:
        raise Stop

clock, gate = FakeClock(), StaticGate()
settings = Settings(secret="s" * 40, recheck_seconds=0.5)
MCPTokenProvider.configure(settings=settings, gate=gate, clock=clock)
provider = MCPTokenProvider.get_instance()
signal.signal(signal.SIGALRM, stop)
for number in range(2_000):
    clock.advance(1)
    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (number % 150 + 1))
    try:
        inside = True
        provider.token()
        inside = False
    except Stop:
        inside = False
gate.on = False
clock.advance(1)
signal.setitimer(signal.ITIMER_REAL, 0)
print(provider.token())
"""


@pytest.mark.untraced
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows")
def test_an_exception_out_of_a_signal_handler_leaves_nothing_half_done() -> None:
    """At whatever moment it comes, the next call decides again, and waits for no thread."""
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "None\n")  # a callback may have swallowed one
