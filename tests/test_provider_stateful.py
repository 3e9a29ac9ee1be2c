"""Any sequence of events, under a clock of its own: what holds after each of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from manor_mcp_interceptors import MCPTokenProvider, Outcome, Settings
from manor_mcp_interceptors._decision import token_cache
from manor_mcp_interceptors._decision.decision import Decision
from manor_mcp_interceptors._keys.tokens import AccessToken, effective_margin, mint
from manor_mcp_interceptors._waiting import after_fork_in_child
from tests.support import FakeClock

pytestmark = pytest.mark.slow

TINY = 1e-6
MOSTLY = st.sampled_from([True, True, True, False])
SELDOM = st.sampled_from([False, False, False, True])


class FlakyGate:
    """Answers on the caller's thread, or fails; knows what it answered last."""

    blocking = False

    def __init__(self) -> None:
        self.on = True
        self.fails = False
        self.last = False  # the environment's answer: nothing is set
        self.asked = 0

    def is_enabled(self, key: str, *, subject: str) -> bool:
        self.asked += 1
        if self.fails:
            raise ConnectionError("no backend")
        self.last = self.on
        return self.on

    def watch(self, notify: Callable[[], None]) -> None:
        self.notify = notify

    def settled(self) -> bool:
        """Return what a call made long after the last change must go by."""
        return self.last if self.fails else self.on


class Mints:
    """Stands in for the one function that signs; keeps what it signed, and when."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.fails = False
        self.attempts = 0
        self.last: tuple[AccessToken, str, float, float] | None = None
        self.reasonless: list[str] = []
        self.rejected: set[str] = set()
        self.minted_at: dict[str, float] = {}

    def __call__(self, settings: Settings, key: Any, now: float) -> AccessToken:
        self.attempts += 1
        if not self._has_reason(settings, key.secret):
            self.reasonless.append(f"at {self.clock.mono}: {self.last}")
        if self.fails:
            raise RuntimeError("no entropy")
        token = mint(settings, key, now)
        self.minted_at[token.value] = self.clock.mono
        self.last = (token, key.secret, self.clock.wall, self.clock.mono)
        return token

    def _has_reason(self, settings: Settings, secret: str) -> bool:
        if self.last is None or self.last[1] != secret:
            return True
        token, _, wall, mono = self.last
        age = self.clock.mono - mono
        life = token.expires_at - effective_margin(settings) - wall
        stale = max(self.clock.wall - wall, age) >= life - TINY
        refused = token.value in self.rejected and age >= max(settings.margin_seconds, 1) - TINY
        return stale or refused or self.clock.wall < wall


class Deployment(RuleBasedStateMachine):
    """One provider, a mounted secret, a flag, two clocks; and everything that happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "secret"
        self.clock = FakeClock()
        self.gate = FlakyGate()
        self.mints = Mints(self.clock)
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(token_cache, "mint", self.mints)
        self.secrets = 0
        self.good = False
        self.usable: dict[str, float] = {}  # until when, by the monotonic clock
        self.seen: list[str] = []
        self.changed_at = self.clock.mono

    def teardown(self) -> None:
        self.patch.undo()
        self.folder.cleanup()

    @initialize(
        times=st.sampled_from([(2, 1), (10, 3), (60, 30), (60, 90), (3600, 30)]),
        recheck=st.sampled_from([0, 0.02, 0.5, 1, 3]),
        has_secret=MOSTLY,
    )
    def deploy(self, times: tuple[int, int], recheck: float, has_secret: bool) -> None:
        self.recheck = recheck
        self.settings = Settings(
            secret_file=self.file,
            ttl_seconds=times[0],
            margin_seconds=times[1],
            recheck_seconds=recheck,
        )
        self.provider = MCPTokenProvider(self.settings, gate=self.gate, clock=self.clock)
        if has_secret:
            self.rotate(in_place=False)

    # What happens.

    @rule(
        steps=st.lists(
            st.sampled_from([0.001, 0.01, 0.06, 0.5, 0.999, 1, 3, 31, 4000]),
            min_size=1,
            max_size=6,
        ),
        calls=MOSTLY,
    )
    def time_passes(self, steps: list[float], calls: bool) -> None:
        for seconds in steps:
            self.clock.advance(seconds)
            if calls:
                self.call("decision", 1)

    @rule()
    def a_recheck_interval_passes(self) -> None:
        self.clock.advance(self.recheck + TINY)
        self.call("decision", 1)

    @rule(seconds=st.sampled_from([-3600, -2, -0.5, 0.5, 3600]))
    def the_wall_clock_steps(self, seconds: float) -> None:
        """Forward, that is also a suspend: the monotonic clock stands still."""
        self.clock.step_wall(seconds)
        self.changed_at = self.clock.mono
        if seconds < 0:  # a lease lasts longer by what the clock was set back within it
            for secret, until in self.usable.items():
                self.usable[secret] = until + min(-seconds, self.recheck)

    @rule(on=MOSTLY, fails=SELDOM)
    def the_flag_changes(self, on: bool, fails: bool) -> None:
        self.gate.on, self.gate.fails = on, fails
        self.changed_at = self.clock.mono

    @rule(in_place=st.booleans())
    def rotate(self, in_place: bool) -> None:
        self.secrets += 1
        secret = f"secret number {self.secrets:4} that opens nothing at all"
        for other in self.usable:
            limit = self.clock.mono + self.recheck
            self.usable[other] = min(self.usable[other], limit)
        self.usable[secret] = float("inf")
        self._write(secret.encode() + b"\n", in_place=in_place)
        self.good = True

    @rule(
        damage=st.sampled_from([b"", b" \n", b"\xff" * 40, b"x" * 70_000, None]),
        in_place=st.booleans(),
    )
    def the_file_is_damaged(self, damage: bytes | None, in_place: bool) -> None:
        if damage is None:
            self.file.unlink(missing_ok=True)
        else:
            self._write(damage, in_place=in_place)
        for secret, until in self.usable.items():
            if until >= self.clock.mono:  # may be the last good one
                self.usable[secret] = float("inf")
        self.good = False
        self.changed_at = self.clock.mono

    def _write(self, data: bytes, *, in_place: bool) -> None:
        draft = self.file if in_place else self.file.with_name("draft")
        draft.write_bytes(data)
        os.utime(draft, (self.clock.wall, self.clock.wall))
        draft.replace(self.file)
        self.changed_at = self.clock.mono

    @rule(fails=SELDOM)
    def signing_changes(self, fails: bool) -> None:
        self.mints.fails = fails
        self.changed_at = self.clock.mono

    @rule()
    def the_process_forks(self) -> None:
        after_fork_in_child()

    @rule()
    def the_backend_sends_an_event(self) -> None:
        self.gate.notify()

    @precondition(lambda self: self.seen)
    @rule(back=st.integers(1, 3))
    def a_server_refuses_a_token(self, back: int) -> None:
        token = self.seen[-min(back, len(self.seen))]
        self.mints.rejected.add(token)
        self.provider.invalidate(token)

    # What is asked, and what must hold.

    @rule(how=st.sampled_from(["decision", "decision_async"]), times=st.integers(1, 3))
    def call(self, how: str, times: int) -> None:
        for _ in range(times):
            attempts, asked = self.mints.attempts, self.gate.asked
            decision = run(getattr(self.provider, how))
            assert self.mints.attempts - attempts <= 1, "two mints for one call"
            assert self.gate.asked - asked <= 1
            assert not self.mints.reasonless
            self._check(decision)

    def _check(self, decision: Decision) -> None:
        assert (decision.token is None) == (decision.outcome is not Outcome.OK)
        assert decision.reason
        if decision.token is not None:
            self._check_token(decision.token)
            assert decision.authorization == f"Bearer {decision.token}"
            assert decision.metadata_entry == ("authorization", decision.authorization)
        if self.clock.mono - self.changed_at >= self.recheck:
            self._check_settled(decision)

    def _check_token(self, token: str) -> None:
        self.seen.append(token)
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["exp"] > self.clock.wall, "an expired token"
        assert claims["iat"] <= self.clock.wall, "a token from the future"
        minted_at = self.mints.minted_at[token]
        assert self.clock.mono - minted_at < self.settings.ttl_seconds, "older than its lifetime"
        signers = [secret for secret in self.usable if signs(secret, token)]
        assert len(signers) == 1
        assert self.usable[signers[0]] + TINY >= self.clock.mono, "a secret replaced too long ago"

    def _check_settled(self, decision: Decision) -> None:
        """Nothing has changed for a recheck interval: the answer is what the state says."""
        outcome = decision.outcome
        if not self.gate.settled():
            assert outcome is Outcome.FLAG_OFF
        elif not self.usable:
            assert outcome in {Outcome.NOT_CONFIGURED, Outcome.INVALID_CONFIG}
        elif self.good and not self.mints.fails:
            assert outcome is Outcome.OK, "None, though flag, secret and signing are good"
        elif self.good:
            assert outcome in {Outcome.OK, Outcome.SIGNING_FAILED}


def run(ask: Callable[[], Decision | Coroutine[Any, Any, Decision]]) -> Decision:
    """Call it; a coroutine that never waits needs no event loop."""
    asked = ask()
    if isinstance(asked, Decision):
        return asked
    try:
        asked.send(None)
    except StopIteration as done:
        decision: Decision = done.value
        return decision
    raise AssertionError("it waited, though the gate does not block")


def signs(secret: str, token: str) -> bool:
    try:
        jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_aud": False},
        )
    except jwt.InvalidSignatureError:
        return False
    return True


Deployment.TestCase.settings = settings(
    max_examples=int(os.environ.get("STATEFUL_EXAMPLES", "200")),
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestAnyDeployment = Deployment.TestCase
