"""Stand-ins for tests of code that calls MCP servers, for any test runner.

Users of pytest get all of it as fixtures: see `manor_mcp_interceptors.pytest_plugin`. With any
other runner::

    with auth_on() as secret, AuthServer(secret) as server:
        call_the_code_under_test(server.url)
        assert server.last.authorized

With ``auth_on(algorithm="ES256") as key`` there is no secret: `key` is a `KeyPair`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar, overload

from manor_mcp_interceptors._decision.configuration import DEFAULTS
from manor_mcp_interceptors._flags.gates import variable_names
from manor_mcp_interceptors.protocols import Clock
from manor_mcp_interceptors.provider import MCPTokenProvider, process_wide
from manor_mcp_interceptors.server import _process_wide
from manor_mcp_interceptors.settings import VARIABLES, enforcement_settings, flag_and_subject

from .auth_server import AuthServer, RecordedRequest
from .key_pair import KeyAlgorithm, KeyPair

__all__ = [
    "AuthServer",
    "FakeClock",
    "KeyAlgorithm",
    "KeyPair",
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

_Key = TypeVar("_Key", str, KeyPair)


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


def auth_variables(key: str | KeyPair, *, on: bool = True) -> dict[str, str]:
    """Return the environment that switches auth on or off, for this process or another.

    The recheck interval is zero, so that the next call sees whatever the test changes.

    Args:
        key: The shared secret, or the key pair: the variables are those of a caller and a server.
        on: The feature flag.
    """
    return {
        **_key_variables(key),
        "MCP_AUTH_RECHECK_SECONDS": "0",
        DEFAULTS.feature_flag.upper(): "on" if on else "off",
    }


def _key_variables(key: str | KeyPair) -> dict[str, str]:
    if isinstance(key, str):
        return {"MCP_AUTH_SECRET": key}
    return {
        "MCP_AUTH_PRIVATE_KEY_FILE": key.private_key_file,
        "MCP_AUTH_JWKS_FILE": key.jwks_file,
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


@overload
def auth_on(
    secret: str | None = None, *, algorithm: Literal["HS256"] = "HS256", clock: Clock | None = None
) -> AbstractContextManager[str]: ...
@overload
def auth_on(
    *, algorithm: KeyAlgorithm, clock: Clock | None = None
) -> AbstractContextManager[KeyPair]: ...
def auth_on(
    secret: str | None = None,
    *,
    algorithm: Literal["HS256", "ES256", "RS256", "EdDSA"] = "HS256",
    clock: Clock | None = None,
) -> AbstractContextManager[str] | AbstractContextManager[KeyPair]:
    """Run with auth switched on, whatever was configured before.

    Args:
        secret: The shared secret; None is a random one.
        algorithm: With any but ``HS256`` there is no secret: a new private key signs, and its
            public half verifies (extra ``crypto``).
        clock: The clock to mint tokens with, and for the process-wide verifier; None is the `time`
            module, frozen or not.

    Yields:
        The secret, or the key pair, whose files are removed afterwards.

    Raises:
        ValueError: Both a secret and another algorithm than ``HS256`` are given.
    """
    if algorithm == "HS256":
        return _switched(new_secret() if secret is None else secret, clock, on=True)
    if secret is not None:
        del secret  # a traceback that prints locals prints no secret
        raise ValueError(f"{algorithm} takes no secret")
    return _with_key_pair(algorithm, clock)


@contextmanager
def auth_off(secret: str | None = None, *, clock: Clock | None = None) -> Iterator[str]:
    """As `auth_on`, with the feature flag off: calls go out without a token."""
    with _switched(new_secret() if secret is None else secret, clock, on=False) as made:
        yield made


@contextmanager
def _with_key_pair(algorithm: KeyAlgorithm, clock: Clock | None) -> Iterator[KeyPair]:
    with (
        TemporaryDirectory(prefix="mcp-auth-") as folder,
        _switched(KeyPair.create(folder, algorithm), clock, on=True) as made,
    ):
        yield made


@contextmanager
def _switched(key: _Key, clock: Clock | None, *, on: bool) -> Iterator[_Key]:
    with isolated_auth():
        os.environ.update(auth_variables(key, on=on))
        MCPTokenProvider.configure(gate=StaticGate(on=on), clock=clock)
        _share_clock(clock)
        yield key
