"""Every test starts with an environment and a process-wide provider of its own."""

from __future__ import annotations

import pytest

from manor_mcp_interceptors import Settings
from tests.support import FLAG, SECRET, FakeClock

pytest_plugins = ["manor_mcp_interceptors.pytest_plugin", "tests.support.leak_guard", "pytester"]
"""Our plugin by name, because it must also be found where the package is not installed."""


@pytest.fixture(autouse=True)
def isolated(mcp_auth_isolated: None) -> None:
    """Start without our variables, and with nothing decided."""


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
