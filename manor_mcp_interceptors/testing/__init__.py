"""Stand-ins for tests of code that calls MCP servers, for any test runner.

Users of pytest get all of it as fixtures: see `manor_mcp_interceptors.pytest_plugin`. With any
other runner::

    with auth_on() as secret, AuthServer(secret) as server:
        call_the_code_under_test(server.url)
        assert server.last.authorized
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from manor_mcp_interceptors._decision.configuration import DEFAULTS
from manor_mcp_interceptors._flags.gates import variable_names
from manor_mcp_interceptors.protocols import Clock
from manor_mcp_interceptors.provider import MCPTokenProvider, process_wide
from manor_mcp_interceptors.server import _process_wide
from manor_mcp_interceptors.settings import VARIABLES, enforcement_settings, flag_and_subject

from .auth_server import AuthServer, RecordedRequest

__all__ = [
    "AuthServer",
    "FakeClock",
    "RecordedRequest",
    "StaticGate",
    "auth_off",
    "auth_on",
    "auth_variables",
    "isolated_auth",
    "isolated_provider",
    "new_secret",
    "our_variables",
]


class FakeClock:
    """A wall clock and a monotonic clock that move only on demand."""

    def __init__(self, wall: float = 1_800_000_000.25, monotonic: float = 1_000.0) -> None:
        """Start at `wall`, Unix time in seconds: by default in January 2027."""
        self.wall: float = wall
        self.mono: float = monotonic

    def time(self) -> float:
        """Return the wall clock's Unix time, seconds."""
        return self.wall

    def monotonic(self) -> float:
        """Return the monotonic clock's seconds."""
        return self.mono

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self.wall += seconds
        self.mono += seconds

    def step_wall(self, seconds: float) -> None:
        """Move only the wall clock, as an operator or NTP would; `seconds` may be negative."""
        self.wall += seconds


class StaticGate:
    """A feature flag with a fixed answer, which records who asked."""

    blocking = False

    def __init__(self, *, on: bool = True) -> None:
        self.on = on
        """The answer; set it to switch the flag."""
        self.asked: list[tuple[str, str]] = []
        """Key and subject of each question, in order."""

    def is_enabled(self, key: str, *, subject: str) -> bool:
        """Return `on`."""
        self.asked.append((key, subject))
        return self.on


class _Secret(str):
    """Text that assertion messages and tracebacks do not show: they print its `repr`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'<test secret>'"


def new_secret() -> str:
    """Return a random secret for tests; its `repr` does not show it."""
    return _Secret(secrets.token_urlsafe(32))


def our_variables() -> frozenset[str]:
    """Return the names of all environment variables that this library would read now."""
    enforcement = enforcement_settings(os.environ).enforcement_flag
    flags = {DEFAULTS.feature_flag, flag_and_subject(os.environ)[0], enforcement}
    names = [variable.name for variable in VARIABLES]
    return frozenset(
        [*names, "SERVICE_NAME", *(v for flag in flags if flag for v in variable_names(flag))]
    )


def auth_variables(secret: str, *, on: bool = True) -> dict[str, str]:
    """Return the environment that switches auth on or off, for this process or another.

    The recheck interval is zero, so that the next call sees whatever the test changes.
    """
    return {
        "MCP_AUTH_SECRET": secret,
        "MCP_AUTH_RECHECK_SECONDS": "0",
        DEFAULTS.feature_flag.upper(): "on" if on else "off",
    }


@contextmanager
def isolated_provider() -> Iterator[None]:
    """Run with new process-wide providers and a new verifier; restore the old ones afterwards."""
    providers = process_wide.configuration, process_wide.leases()
    verifier = _process_wide.current
    _share_clock(None)
    MCPTokenProvider.reset()
    try:
        yield
    finally:
        _process_wide.current = verifier
        process_wide.configure(*providers)


def _share_clock(clock: Clock | None) -> None:
    """Start with a new process-wide verifier that uses `clock`, until `isolated_provider` ends."""
    _process_wide.current = _process_wide.ProcessWide(clock)


@contextmanager
def isolated_auth() -> Iterator[None]:
    """Run without this library's variables, and with a new process-wide provider and verifier.

    Afterwards variables, configuration and tokens are restored.
    """
    names = our_variables()
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        with isolated_provider():
            yield
    finally:
        for name in names | our_variables():
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def auth_on(secret: str | None = None, *, clock: Clock | None = None) -> Iterator[str]:
    """Run with auth switched on, whatever was configured before.

    Args:
        secret: None is a random one.
        clock: The clock to mint tokens with, and for the process-wide verifier; None is the `time`
            module, frozen or not.

    Yields:
        The secret.
    """
    with _switched(secret, clock, on=True) as made:
        yield made


@contextmanager
def auth_off(secret: str | None = None, *, clock: Clock | None = None) -> Iterator[str]:
    """As `auth_on`, with the feature flag off: calls go out without a token."""
    with _switched(secret, clock, on=False) as made:
        yield made


@contextmanager
def _switched(secret: str | None, clock: Clock | None, *, on: bool) -> Iterator[str]:
    secret = new_secret() if secret is None else secret
    with isolated_auth():
        os.environ.update(auth_variables(secret, on=on))
        MCPTokenProvider.configure(gate=StaticGate(on=on), clock=clock)
        _share_clock(clock)
        yield secret
