"""A fleet leaves its shared secret by the runbook in docs/keys.md: no call is refused.

Here with a clock that is moved by hand and without a network; ``python -m tests.soak`` does the
same with processes that call each other.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, TokenRejectedError, TokenVerifier
from tests.server.forging import claims, forge, forge_with
from tests.support import FakeClock, StaticGate
from tests.support.migration import (
    NAMES,
    NEW_PAIR,
    PAIRS,
    ROTATED,
    Host,
    Step,
    accept_keys,
    add_new_key,
    drop_old_key,
    migrate,
    sign_with_key,
    use_new_key,
)

TTL = 10


def sign_at_once(host: Host) -> bool:
    """Both steps on each host, without waiting for the others."""
    return accept_keys(host) and sign_with_key(host)


class Ring:
    """Each service calls each other one, at each moment."""

    def __init__(self, hosts: list[Host], clock: FakeClock) -> None:
        self.hosts = hosts
        self._clock = clock
        self._providers: dict[str, MCPTokenProvider] = {}
        self.verifiers: dict[str, TokenVerifier] = {}
        self.calls = 0
        self.refused: list[str] = []
        for host in hosts:
            host.variables["MCP_AUTH_TTL_SECONDS"] = str(TTL)
            host.variables["MCP_AUTH_MARGIN_SECONDS"] = "2"
            self._start(host)

    def _start(self, host: Host) -> None:
        settings = Settings.from_env(host.variables)
        self._providers[host.name] = MCPTokenProvider(
            settings, gate=StaticGate(), clock=self._clock
        )
        self.verifiers[host.name] = TokenVerifier(settings, clock=self._clock)

    def changed(self, host: Host, *, restart: bool) -> None:
        if restart:
            self._start(host)
        self._go_on(0.3)

    def settle(self) -> None:
        for _ in range(4):
            self._go_on(0.5)

    def outlive(self) -> None:
        for _ in range(TTL + 1):
            self._go_on(1.0)

    def _go_on(self, seconds: float) -> None:
        self._call_all()
        self._clock.advance(seconds)
        self._call_all()

    def _call_all(self) -> None:
        for caller, provider in self._providers.items():
            for callee, verifier in self.verifiers.items():
                self.calls += 1
                try:
                    assert verifier.verify(str(provider.token())).subject == caller
                except TokenRejectedError as error:
                    self.refused.append(f"{caller} at {callee}: {error.reason}")


@pytest.fixture
def ring(tmp_path: Path, clock: FakeClock) -> Ring:
    return Ring([Host(name, tmp_path / name) for name in NAMES], clock)


def answers(ring: Ring, token: str) -> set[str]:
    """Return what the services say to a token."""
    return {answer(verifier, token) for verifier in ring.verifiers.values()}


def answer(verifier: TokenVerifier, token: str) -> str:
    try:
        return verifier.verify(token).subject
    except TokenRejectedError as error:
        return str(error.reason)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_ring_of_services_leaves_its_shared_secret_and_refuses_nobody(
    ring: Ring, clock: FakeClock, seed: int
) -> None:
    """Whatever the order of the hosts; then the secret opens nothing, nor does a retired key."""
    migrate(ring.hosts, ring, random.Random(seed))
    assert ring.refused == []
    assert ring.calls > 2_000
    now = int(clock.time())
    assert answers(ring, forge(claims(now))) == {"algorithm"}
    assert answers(ring, forge_with(PAIRS[ROTATED], claims(now, sub=ROTATED))) == {"unknown_key"}
    assert answers(ring, forge_with(NEW_PAIR, claims(now, sub=NAMES[1]))) == {"subject"}
    assert answers(ring, forge_with(NEW_PAIR, claims(now, sub=ROTATED))) == {ROTATED}


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ((accept_keys, sign_with_key, use_new_key, add_new_key), "unknown_key"),
        ((accept_keys, sign_with_key, drop_old_key, use_new_key), "unknown_key"),
        ((sign_at_once,), "algorithm"),
    ],
)
def test_steps_in_another_order_refuse_calls(
    ring: Ring, steps: tuple[Step, ...], reason: str
) -> None:
    """So the order of the runbook is needed, and the drill can fail."""
    migrate(ring.hosts, ring, random.Random(1), steps)
    assert {each.rpartition(" ")[2] for each in ring.refused} == {reason}


def test_each_step_can_be_taken_back(ring: Ring, clock: FakeClock) -> None:
    """By what the files and variables were before it, on any of the hosts and in any order."""
    order, fleet = random.Random(1), ring.hosts
    migrate(fleet, ring, order, (accept_keys,))
    before = {host.name: dict(host.variables) for host in fleet}
    migrate(fleet[:3], ring, order, (sign_with_key,))
    for host in order.sample(fleet, len(fleet)):
        host.variables = before[host.name]
        ring.changed(host, restart=True)
    ring.settle()
    assert ring.refused == []
