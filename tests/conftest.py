"""Every test starts with an environment and a process-wide provider of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings
from manor_mcp_interceptors.settings import VARIABLES
from tests.support import FLAG, SECRET, FakeClock


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start without our variables, and with nothing decided."""
    for name in [*(v.name for v in VARIABLES), "SERVICE_NAME", FLAG, FLAG.upper()]:
        if name in os.environ:
            monkeypatch.delenv(name)
    MCPTokenProvider.reset()
    yield
    MCPTokenProvider.reset()


@pytest.fixture
def env_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure auth as a service would: a secret and the flag, in the environment."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv(FLAG.upper(), "on")


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still until it is told to move."""
    return FakeClock()


@pytest.fixture
def settings() -> Settings:
    """Return settings with a secret, and the defaults otherwise."""
    return Settings(secret=SECRET)
