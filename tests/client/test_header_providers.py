"""Header providers: a function that a framework calls for the headers of a call."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from manor_mcp_interceptors import MCPTokenProvider, get_auth_headers
from tests.support import SECRET, FakeClock, StaticGate


@pytest.mark.parametrize(
    "arguments",
    [
        (SimpleNamespace(state={}),),  # google-adk 2.13: a ReadonlyContext
        ({"conversation_id": "7"},),  # agent-framework 1.23: the run's keyword arguments
        (),
    ],
    ids=["google-adk", "agent-framework", "nothing"],
)
def test_a_header_provider_gives_the_token_of_now(
    arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """Renewed in time, and no header while the flag is off; the dict is the framework's own."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    gate = StaticGate()
    MCPTokenProvider.configure(gate=gate, clock=clock)
    header_provider: Callable[..., dict[str, str]] = lambda *_: get_auth_headers()  # noqa: E731

    first = header_provider(*arguments)
    assert first == {"Authorization": f"Bearer {MCPTokenProvider.get_token()}"}
    clock.advance(3600)
    assert header_provider(*arguments) != first

    first.clear()  # frameworks merge their own headers into it
    assert header_provider(*arguments) != {}
    gate.on = False
    clock.advance(2)
    assert header_provider(*arguments) == {}
