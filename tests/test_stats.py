"""Statistics: what is counted, and that no count is lost."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    Settings,
    TokenRejectedError,
    TokenVerifier,
)
from manor_mcp_interceptors._decision import token_cache
from manor_mcp_interceptors._telemetry.counters import TOTALS, Counters
from manor_mcp_interceptors.server.verifier import verification_of
from manor_mcp_interceptors.stats import process_stats
from tests.support import SECRET, FakeClock, StaticGate


def make(
    clock: FakeClock, gate: StaticGate | None = None, *, secret: str | None = SECRET
) -> MCPTokenProvider:
    return MCPTokenProvider(Settings(secret=secret), gate=gate or StaticGate(), clock=clock)


def test_a_decision_is_counted_once_for_each_lease(clock: FakeClock) -> None:
    """A hundred calls within one lease are one decision, and one mint."""
    provider = make(clock)
    for _ in range(100):
        provider.token()
    assert provider.stats().decisions == {Outcome.OK: 1}
    clock.advance(1.5)
    provider.token()
    assert provider.stats().decisions == {Outcome.OK: 2}
    assert provider.stats().mints == 1


def test_each_outcome_has_its_own_count(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that is off, a token, and a failure to sign."""
    gate = StaticGate(on=False)
    provider = make(clock, gate)
    provider.token()
    gate.on = True
    clock.advance(2)
    provider.token()
    clock.advance(4000)
    monkeypatch.setattr(token_cache, "mint", lambda *_: 1 / 0)
    provider.token()
    stats = provider.stats()
    assert stats.decisions == {Outcome.FLAG_OFF: 1, Outcome.OK: 1, Outcome.SIGNING_FAILED: 1}
    assert stats.mints == 1


def test_each_call_that_a_per_call_gate_refuses_is_a_decision(clock: FakeClock) -> None:
    """No other call shares a refusal; all calls share the token."""
    gate = StaticGate()
    gate.per_call = True  # type: ignore[attr-defined]
    provider = make(clock, gate)
    for gate.on in (True, False, True, False, False):
        provider.token()
    assert provider.stats().decisions == {Outcome.OK: 1, Outcome.FLAG_OFF: 3}
    assert provider.stats().mints == 1


def test_a_refused_token_is_a_refresh_if_it_is_the_current_one(clock: FakeClock) -> None:
    """A refusal of an older token is not counted."""
    provider = make(clock)
    token = provider.token()
    assert token is not None
    provider.invalidate("x.y.z")
    assert provider.stats().refreshes == 0
    provider.invalidate(token)
    assert provider.stats().refreshes == 1
    clock.advance(31)
    assert provider.token() != token
    assert provider.stats().mints == 2


def test_the_process_adds_up_its_providers(clock: FakeClock) -> None:
    """Each provider has separate numbers; the sums include providers that no longer exist."""
    before = process_stats().client
    for _ in range(3):
        make(clock).token()
    after = process_stats().client
    assert after.mints - before.mints == 3
    assert after.decisions[Outcome.OK] - before.decisions.get(Outcome.OK, 0) == 3


def test_no_count_is_lost_between_threads() -> None:
    """Eight threads that switch as often as possible."""
    counters, total = Counters(TOTALS), 8 * 5000
    before = TOTALS.words("retries").get("", 0)
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for _ in range(5000):
            counters.count("retries")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert counters.words("retries") == {"": total}
    assert TOTALS.words("retries")[""] - before == total


def test_verifications_are_counted_by_result(clock: FakeClock) -> None:
    """Accepted, remembered, and refused for each reason."""
    settings = Settings(secret=SECRET)
    verifier, before = TokenVerifier(settings, clock=clock), process_stats().server
    token = make(clock).token()
    assert token is not None
    for _ in range(3):
        verifier.verify(token)
    clock.advance(4000)
    for bad in (token, f"{token}x", f"{token}x"):
        with pytest.raises(TokenRejectedError):
            verifier.verify(bad)
    verification_of(verifier).check_authorization([])
    stats, after = verifier.stats(), process_stats().server
    assert (stats.accepted, stats.remembered) == (1, 2)
    assert stats.rejected == {"expired": 1, "signature": 2, "missing": 1} == verifier.rejections()
    assert (after.accepted - before.accepted, after.remembered - before.remembered) == (1, 2)


def test_a_forked_child_counts_from_zero() -> None:
    """Otherwise, each worker of a preloaded application would report its parent's numbers."""
    code = """
import os
from manor_mcp_interceptors import MCPTokenProvider, get_token
from manor_mcp_interceptors.server.verifier import verification_of
from manor_mcp_interceptors.stats import process_stats
get_token()
provider = MCPTokenProvider.get_instance()
child = os.fork()
if child == 0:
    os._exit(len(provider.stats().decisions) + len(process_stats().client.decisions))
print(os.waitpid(child, 0)[1], len(provider.stats().decisions))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0 1\n", "")


def test_stats_hold_no_secret_and_no_token(clock: FakeClock) -> None:
    """They may be printed."""
    provider = make(clock)
    token = provider.token()
    assert str(token) not in repr(provider.stats())
    assert SECRET not in repr(process_stats())


def test_a_mint_and_a_refusal_are_logged_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A mint at DEBUG; a refusal once for each token; never the token."""
    caplog.set_level("DEBUG", "manor_mcp_interceptors")
    provider = make(clock)
    token = provider.token()
    assert token is not None
    for _ in range(3):
        provider.invalidate(token)
        provider.token()
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines.count(("DEBUG", "MCP auth has a new token for service-search-mcp")) == 1
    assert len([text for level, text in lines if "refused the token for" in text]) == 1
    assert token not in caplog.text


def test_a_forked_child_counts_its_own_refusals() -> None:
    """The counters start at zero; the log line counts since the last one, also before the fork."""
    code = """
import logging, os, sys, time
from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors.testing import FakeClock
logging.basicConfig(stream=sys.stdout, format="%(message)s")
clock = FakeClock()
verifier = TokenVerifier(Settings(secret="s" * 40), clock=clock)
def refuse():
    try:
        verifier.verify("x")
    except TokenRejectedError:
        clock.advance(1)
for _ in range(100):
    refuse()
sys.stdout.flush()
child = os.fork()
if child == 0:
    clock.advance(60)
    refuse()
    print(verifier.rejections() == dict(verifier.stats().rejected) == {"malformed": 1})
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    line = "MCP auth refused a call: malformed (%d since the last such line)"
    lines = [line % 1, line % 60, line % 40, "True"]
    assert (done.stdout.splitlines(), done.stderr) == (lines, "")
