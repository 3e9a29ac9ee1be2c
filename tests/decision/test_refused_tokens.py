from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

import httpx
import pytest

from manor_mcp_interceptors import HttpxAuth, MCPTokenProvider, Settings
from manor_mcp_interceptors._keys.tokens import mint
from tests.support import OTHER_SECRET, FakeClock, StaticGate, signed_with


def test_a_refused_token_is_not_handed_out_while_the_next_is_minted(
    settings: Settings, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread whose token was refused waits for the thread that mints, and gets the new one."""
    provider = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)
    old = provider.token()
    assert old is not None
    clock.advance(60)
    minting, go_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        minting.set()
        go_on.wait(5)
        return mint(*args)

    monkeypatch.setattr("manor_mcp_interceptors._decision.token_cache.mint", slow)
    provider.invalidate(old)
    with futures.ThreadPoolExecutor(2) as pool:
        leader = pool.submit(provider.token)
        assert minting.wait(5)
        follower = pool.submit(provider.token)
        early = futures.wait([follower], timeout=0.05).done
        go_on.set()
        assert not early
        assert leader.result(5) == follower.result(5) != old


def test_a_server_that_refuses_everything_costs_no_look_at_the_flag_for_each_call(
    settings: Settings, clock: FakeClock
) -> None:
    """One for the news, one for each recheck, and one mint for each margin."""
    gate = StaticGate()
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    auth = HttpxAuth(provider=provider)
    refuse = httpx.MockTransport(lambda _: httpx.Response(401))
    with httpx.Client(auth=auth, transport=refuse) as client:
        for _ in range(100):
            client.get("http://localhost/")
        assert len(gate.asked) == 2
        assert provider.stats().refreshes == 1
        for _ in range(610):  # a little more than two margins
            clock.advance(0.1)
            client.get("http://localhost/")
    assert len(gate.asked) <= 2 + 61 + 2 * 2
    assert provider.stats().mints == 3


def test_a_secret_that_changes_after_the_refusal_is_seen_at_the_next_one(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, env_on: None
) -> None:
    """The server was given the new one first; a call is renewed as soon as the client has it."""
    provider = MCPTokenProvider(gate=StaticGate(), clock=clock)
    first = provider.token()
    assert first is not None
    provider.invalidate(first)
    assert provider.token() == first
    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    provider.invalidate(first)
    second = provider.token()
    assert second is not None
    assert signed_with(second, OTHER_SECRET)


@pytest.mark.parametrize("name", ["MCP_AUTH_SECRET", "MCP_AUTH_TTL_SECONDS"])
def test_settings_that_are_lost_after_the_refusal_are_left_to_the_recheck(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, env_on: None, name: str
) -> None:
    """Nothing new can be signed: the refusal raises nothing, and costs no look at the flag."""
    gate = StaticGate()
    provider = MCPTokenProvider(gate=gate, clock=clock)
    first = provider.token()
    assert first is not None
    provider.invalidate(first)
    assert provider.token() == first
    monkeypatch.setenv(name, " ")
    provider.invalidate(first)
    assert provider.token() == first
    assert len(gate.asked) == 2
    clock.advance(1)
    assert provider.token() is None
