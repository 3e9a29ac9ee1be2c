"""Fixtures for tests of code that calls MCP servers.

pytest finds them if this package is installed. Before a test asks for one of them,
nothing happens and nothing third-party is imported; no transport ever is.

What the fixtures hand out is in `manor_mcp_interceptors.testing`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from .provider import MCPTokenProvider
    from .testing import AuthServer, FakeClock, KeyAlgorithm, KeyPair, StaticGate

__all__ = [
    "mcp_auth_algorithm",
    "mcp_auth_clock",
    "mcp_auth_gate",
    "mcp_auth_isolated",
    "mcp_auth_key",
    "mcp_auth_off",
    "mcp_auth_on",
    "mcp_auth_secret",
    "mcp_auth_server",
]


@pytest.fixture(scope="session")
def mcp_auth_secret() -> str:
    """A secret, random in each session; its `repr` does not show it."""
    from .testing import new_secret

    return new_secret()


@pytest.fixture
def mcp_auth_algorithm() -> str:
    """``HS256``. Parametrize it or override it for ``ES256``, ``RS256`` or ``EdDSA``."""
    return "HS256"


@pytest.fixture
def mcp_auth_key(
    mcp_auth_algorithm: KeyAlgorithm | Literal["HS256"],
    mcp_auth_secret: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> str | KeyPair:
    """What the provider signs with and the server verifies with: a secret, or a new key pair."""
    if mcp_auth_algorithm == "HS256":
        return mcp_auth_secret
    from .testing import KeyPair

    return KeyPair.create(tmp_path_factory.mktemp("mcp_auth"), mcp_auth_algorithm)


@pytest.fixture
def mcp_auth_isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """None of this library's variables is set; process-wide providers and verifier are new."""
    from .testing import isolated_provider, our_variables

    # monkeypatch, rather than a restore of our own, because the test uses it for the same names.
    for name in our_variables():
        monkeypatch.setenv(name, "")  # so that one the test sets for good is removed as well
        monkeypatch.delenv(name)
    with isolated_provider():
        yield


@pytest.fixture
def mcp_auth_gate() -> StaticGate:
    """The feature flag of `mcp_auth_on` and `mcp_auth_off`; set its `on` to switch it."""
    from .testing import StaticGate

    return StaticGate()


@pytest.fixture
def mcp_auth_clock() -> FakeClock:
    """A clock that stands at the present until it is told to move.

    In a test that asks for it, provider, verifier and `mcp_auth_server` use it.
    """
    from .testing import FakeClock

    return FakeClock(time.time())


@pytest.fixture
def mcp_auth_on(
    mcp_auth_isolated: None,  # noqa: ARG001 - a fixture asked for what it does
    mcp_auth_key: str | KeyPair,
    mcp_auth_gate: StaticGate,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> MCPTokenProvider:
    """Auth is switched on as a deployment does it, and every change is seen by the next call."""
    from .provider import MCPTokenProvider
    from .testing import _share_clock, auth_variables

    for name, value in auth_variables(mcp_auth_key).items():
        monkeypatch.setenv(name, value)
    clock = _clock(request)
    MCPTokenProvider.configure(gate=mcp_auth_gate, clock=clock)
    _share_clock(clock)
    return MCPTokenProvider.get_instance()


@pytest.fixture
def mcp_auth_off(
    mcp_auth_on: MCPTokenProvider,
    mcp_auth_key: str | KeyPair,
    mcp_auth_gate: StaticGate,
    monkeypatch: pytest.MonkeyPatch,
) -> MCPTokenProvider:
    """As `mcp_auth_on`, with the feature flag off: calls go out without a token."""
    from .testing import auth_variables

    for name, value in auth_variables(mcp_auth_key, on=False).items():
        monkeypatch.setenv(name, value)
    mcp_auth_gate.on = False
    return mcp_auth_on


@pytest.fixture
def mcp_auth_server(
    mcp_auth_key: str | KeyPair, request: pytest.FixtureRequest
) -> Iterator[AuthServer]:
    """A real HTTP server on 127.0.0.1 that verifies each request's token and records it."""
    from .testing import AuthServer

    with AuthServer(mcp_auth_key, clock=_clock(request)) as server:
        yield server


def _clock(request: pytest.FixtureRequest) -> FakeClock | None:
    if "mcp_auth_clock" not in request.fixturenames:
        return None  # the `time` module, frozen or not
    clock: FakeClock = request.getfixturevalue("mcp_auth_clock")
    return clock
