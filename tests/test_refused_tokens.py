from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings
from manor_mcp_interceptors.tokens import mint
from tests.support import FakeClock, StaticGate


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

    monkeypatch.setattr("manor_mcp_interceptors._token_cache.mint", slow)
    provider.invalidate(old)
    with futures.ThreadPoolExecutor(2) as pool:
        leader = pool.submit(provider.token)
        assert minting.wait(5)
        provider.invalidate(old)
        follower = pool.submit(provider.token)
        early = futures.wait([follower], timeout=0.05).done
        go_on.set()
        assert not early
        assert leader.result(5) == follower.result(5) != old
