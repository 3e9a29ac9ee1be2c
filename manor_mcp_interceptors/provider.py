"""The provider, and the process-wide instances of it that adapters use by default."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from ._bearer import HEADER_NAME
from ._decision.configuration import Configuration, Explanation
from ._decision.decision import Decision
from ._decision.lease import Lease
from ._telemetry.counters import Counters
from ._telemetry.log import LogThrottle, log
from ._waiting import reset_after_fork
from .errors import SettingsError
from .outcomes import Outcome, TokenStatus
from .protocols import Clock, Gate, TokenSource
from .settings import Settings
from .stats import ProviderStats, provider_stats

__all__ = ["MCPTokenProvider", "diagnose", "get_auth_headers", "get_token", "is_enabled"]

MAX_AUDIENCES: Final = 1024
"""How many audiences have an instance at a time; the oldest makes room, never the configured."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _OnClassToo(Generic[_P, _R]):
    """A method that, called on the class, is the process-wide provider's."""

    def __init__(self, method: Callable[Concatenate[Any, _P], _R]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(
        self, provider: MCPTokenProvider | None, owner: type[MCPTokenProvider]
    ) -> Callable[_P, _R]:
        return MethodType(self._method, owner.get_instance() if provider is None else provider)


class MCPTokenProvider:
    """Decides which token a call carries; mints it, caches it, renews it. Safe from any thread.

    The process-wide instance comes from `get_instance`; adapters use it by default. A decision is
    leased until the next recheck, so a call reads the decision, reads the clock and compares. No
    method raises because there is no token.

    A copy is the provider itself. A pickle holds no secret and no token: a process-wide instance
    becomes that of the other process, and `Settings` given in code arrive without their secrets.
    """

    __slots__ = ("__weakref__", "_audience", "_family", "_lease")

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        gate: Gate | None = None,
        clock: Clock | None = None,
        token_source: TokenSource | None = None,
    ) -> None:
        """Make a provider that is independent of the process-wide ones.

        Args:
            settings: None reads the environment, again at each recheck.
            gate: None asks the default gates.
            clock: An object with ``time()`` and ``monotonic()``; None is the `time` module.
            token_source: Gives the tokens; None leaves it to the settings. Settings that name a
                secret, a private key or a token file as well are `Outcome.INVALID_CONFIG`.

        Raises:
            SettingsError: The gate or the token source is malformed.
        """
        self._join(_Family(Configuration(settings, gate, clock, token_source)), None)

    def _join(self, family: _Family, audience: str | None) -> None:
        self._family = family
        self._audience = audience
        self._lease = Lease(family.configuration, audience)

    @classmethod
    def get_instance(cls, audience: str | None = None) -> MCPTokenProvider:
        """Return the process-wide instance for `audience`; None is the configured audience.

        Raises:
            SettingsError: `audience` is not text, or is blank.
        """
        return process_wide.provider(audience)

    def for_audience(self, audience: str) -> MCPTokenProvider:
        """Return the provider for another audience with the configuration of this one.

        The same at each call, so that adapters for one audience share its token.

        Raises:
            SettingsError: `audience` is not text, or is blank.
        """
        return self if audience == self._audience else self._family.provider(audience)

    @classmethod
    def configure(
        cls,
        *,
        settings: Settings | None = None,
        gate: Gate | None = None,
        clock: Clock | None = None,
        token_source: TokenSource | None = None,
    ) -> None:
        """Replace the process-wide configuration; adapters that exist already follow.

        Each argument means what it means to the constructor: what is not given comes from the
        environment again.

        Raises:
            SettingsError: The gate or the token source is malformed.
        """
        process_wide.configure(Configuration(settings, gate, clock, token_source))

    @classmethod
    def reset(cls) -> None:
        """Return to the environment, and forget every token."""
        cls.configure()

    def decision(self, max_wait: float | None = None) -> Decision:
        """Return the decision for a call made now. Never raises.

        Args:
            max_wait: Seconds to wait at most for flag and token source; None: this library's limit.
        """
        lease = self._lease
        try:
            return lease.current() or lease.renew(max_wait)
        except Exception as error:  # whatever is handed in or configured, the call is sent
            return lease.failed(error)

    async def decision_async(self, max_wait: float | None = None) -> Decision:
        """As `decision`; the event loop (asyncio or trio) continues meanwhile."""
        lease = self._lease
        try:
            return lease.current() or await lease.renew_async(max_wait)
        except Exception as error:
            return lease.failed(error)

    @_OnClassToo
    def get_token(self, audience: str | None = None) -> str | None:
        """Return the token for `audience`, or None. Never raises.

        On the class it is the process-wide provider's; None is the audience of the provider.
        """
        provider = self._for_call(audience)
        return None if provider is None else provider.token()

    @_OnClassToo
    def get_auth_headers(self, audience: str | None = None) -> dict[str, str]:
        """Return the headers for `audience`; ``{}`` if there is no token. Never raises.

        On the class it is the process-wide provider's; None is the audience of the provider.
        """
        provider = self._for_call(audience)
        return {} if provider is None else provider.headers()

    def _for_call(self, audience: str | None) -> MCPTokenProvider | None:
        return self if audience is None else self._family.provider_or_none(audience)

    def token(self) -> str | None:
        """Return the token for a call made now, or None: send the call without one."""
        return self.decision().token

    async def token_async(self) -> str | None:
        """As `token`; the event loop (asyncio or trio) continues meanwhile."""
        return (await self.decision_async()).token

    def headers(self) -> dict[str, str]:
        """Return a new dict with the ``Authorization`` header; empty if there is no token."""
        return _as_headers(self.decision())

    async def headers_async(self) -> dict[str, str]:
        """As `headers`; the event loop (asyncio or trio) continues meanwhile."""
        return _as_headers(await self.decision_async())

    def status(self) -> TokenStatus:
        """Return what a call made now would carry, and why; safe to print."""
        return self._lease.status(self.decision())

    def explain(self) -> Explanation:
        """Return what a decision made now comes from; for the doctor, as it holds secrets."""
        return self._lease.explain(self.decision())

    def stats(self) -> ProviderStats:
        """Return what this provider has done since it was configured, in numbers."""
        return provider_stats(self.counters)

    @property
    def counters(self) -> Counters:
        """What adapters count with."""
        return self._lease.counters

    def count_decision(self, outcome: Outcome) -> None:
        """Count a decision of an adapter: that a host may have no token."""
        self._lease.count_decision(outcome)

    def invalidate(self, token: str) -> None:
        """Report that a server refused `token`.

        If it is the current one, flag, secret and settings are read again at the next call. A
        new token is minted at once only if the refused one is older than the margin or if the
        secret has changed; a token source is asked at once, but once per margin. So no server can
        make a client mint, or ask, at each call. Never raises.
        """
        lease = self._lease
        try:
            lease.invalidate(token)
        except Exception as error:  # a refusal that cannot be noted breaks no call either
            lease.failed(error)

    def __copy__(self) -> MCPTokenProvider:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> MCPTokenProvider:
        return self

    def __reduce__(self) -> tuple[Callable[..., MCPTokenProvider], tuple[object, ...]]:
        if self._family is process_wide:
            return _instance, (self._audience,)
        given = self._family.configuration
        handed_in = (given.settings, given.gate, given.given_clock, given.given_token_source)
        return _unpickled, (*handed_in, self._audience)

    def __repr__(self) -> str:
        audience = "" if self._audience is None else f" audience={self._audience!r}"
        return f"<MCPTokenProvider{audience} last outcome: {self._lease.last_outcome}>"


def _as_headers(decision: Decision) -> dict[str, str]:
    value = decision.authorization
    return {} if value is None else {HEADER_NAME: value}


# Functions of the module: cloudpickle takes a classmethod apart, with the globals that it uses.
def _instance(audience: str | None) -> MCPTokenProvider:
    return MCPTokenProvider.get_instance(audience)


def _unpickled(
    settings: Settings | None,
    gate: Gate | None,
    clock: Clock | None,
    token_source: TokenSource | None,
    audience: str | None,
) -> MCPTokenProvider:
    provider = MCPTokenProvider(settings, gate=gate, clock=clock, token_source=token_source)
    return provider if audience is None else provider.for_audience(audience)


class _Family:
    """The providers of one configuration, by audience."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration: Configuration = configuration
        self._throttle = LogThrottle(every=60.0)
        self.providers: dict[str | None, MCPTokenProvider] = {}
        # The same and those that have made room, as long as an adapter holds them.
        self._all: weakref.WeakSet[MCPTokenProvider] = weakref.WeakSet()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Start with a free lock: in a forked child, the thread that held it is gone."""
        self._lock = threading.RLock()
        self.configuration.after_fork()  # first, because a lease takes its lock
        for provider in self._all:
            if provider._lease.configuration is not self.configuration:  # it was in `configure`
                provider._lease = Lease(self.configuration, provider._audience)

    def provider(self, audience: str | None) -> MCPTokenProvider:
        """Return the provider for `audience`, made if there is none.

        Raises:
            SettingsError: `audience` is not text, or is blank.
        """
        _check_audience(audience)
        with self._lock:
            known = self.providers.get(audience)
            if known is None:
                known = MCPTokenProvider.__new__(MCPTokenProvider)
                known._join(self, audience)
                self._keep(audience, known)
            return known

    def provider_or_none(self, audience: str | None) -> MCPTokenProvider | None:
        """As `provider`; an audience that is malformed is logged, at most once a minute."""
        try:
            return self.provider(audience)
        except Exception as error:
            if self._throttle.due("audience", time.monotonic()):
                log(logging.WARNING, "MCP auth %s: %s", Outcome.INVALID_CONFIG, error)
            return None

    def _keep(self, audience: str | None, provider: MCPTokenProvider) -> None:
        others = [name for name in self.providers if name is not None]
        for oldest in others[: max(0, len(self.providers) + 1 - MAX_AUDIENCES)]:
            del self.providers[oldest]
        self.providers[audience] = provider
        self._all.add(provider)

    def configure(
        self, configuration: Configuration, leases: Mapping[MCPTokenProvider, Lease] | None = None
    ) -> None:
        """Give every provider a new lease, or the one in `leases`."""
        with self._lock:
            self.configuration = configuration
            self._throttle = LogThrottle(every=60.0)
            for provider in list(self._all):
                lease = (leases or {}).get(provider)
                provider._lease = lease or Lease(configuration, provider._audience)

    def leases(self) -> dict[MCPTokenProvider, Lease]:
        """Return the lease of every provider."""
        with self._lock:
            return {provider: provider._lease for provider in self._all}


def _check_audience(audience: object) -> None:
    if audience is not None and (not isinstance(audience, str) or not audience.strip()):
        raise SettingsError("an audience is text that is not blank", variable="audience")


process_wide: Final = _Family(Configuration(None, None, None, None))
_instances: Final = process_wide.providers


def get_token(audience: str | None = None) -> str | None:
    """Return the token for a call made now, or None: send the call without one.

    Safe from any thread; never raises.

    Args:
        audience: The server's `aud`; None is the configured one.
    """
    provider = None
    try:
        provider = _instances[audience]
        # The body of `Lease.current`: a call less on the hottest path.
        lease = provider._lease
        decision = lease.decision
        if decision.valid_from <= lease.clock.time() < decision.valid_until:
            return decision.token
    except Exception:  # noqa: S110 - no provider yet, or an audience that is not hashable
        pass
    provider = provider or process_wide.provider_or_none(audience)
    return None if provider is None else provider.decision().token


def get_auth_headers(audience: str | None = None) -> dict[str, str]:
    """Return ``{"Authorization": "Bearer <jwt>"}`` for a call made now, ``{}`` without a token.

    The dict is new at each call. Never raises.
    """
    provider = process_wide.provider_or_none(audience)
    return {} if provider is None else provider.headers()


def is_enabled() -> bool:
    """Return whether a call made now would carry a token. Never raises."""
    return get_token() is not None


def diagnose() -> TokenStatus:
    """Return what a call made now would carry, and why; safe to print. Never raises."""
    return MCPTokenProvider.get_instance().status()
