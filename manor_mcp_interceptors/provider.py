"""The provider, and the process-wide instances of it that everything else finds by itself."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ._decision.configuration import Configuration, check_audience, keep
from ._decision.leased_provider import LeasedProvider
from ._telemetry.log import log
from .errors import SettingsError
from .outcomes import Outcome, TokenStatus
from .protocols import Clock, Gate
from .settings import Settings

if TYPE_CHECKING:
    from .stats import ProviderStats

__all__ = ["MCPTokenProvider", "diagnose", "get_auth_headers", "get_token", "is_enabled"]

MAX_AUDIENCES: Final = 1024
"""How many audiences have an instance at a time; the oldest makes room, never the configured."""


class MCPTokenProvider(LeasedProvider):
    """Decides which token a call carries; mints it, caches it, renews it. Safe from any thread.

    The process-wide instance comes from `get_instance`; adapters find it by themselves. A
    decision is leased until the next recheck, so that a call costs one read, one look at the
    clock and one comparison. No method raises for want of a token.

    A copy is the provider itself. A pickle holds no secret and no token: a process-wide instance
    becomes the other process's own, and explicit `Settings` arrive without their secrets.
    """

    __slots__ = ()

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        gate: Gate | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Make a provider apart from the process-wide ones.

        Args:
            settings: None reads the environment, anew at each recheck.
            gate: None asks the default gates.
            clock: An object with ``time()`` and ``monotonic()``; None is the `time` module.
        """
        super().__init__(Configuration(settings, gate, clock), None)

    @classmethod
    def get_instance(cls, audience: str | None = None) -> MCPTokenProvider:
        """Return the process-wide instance for `audience`; None is the configured audience.

        Raises:
            SettingsError: `audience` is not text, or is blank.
        """
        return _instances.get(audience) or _registry.instance(audience)

    def for_audience(self, audience: str) -> MCPTokenProvider:
        """Return the provider for another audience with the set-up of this one.

        The same at each call, so that adapters for one audience share its token.

        Raises:
            SettingsError: `audience` is not text, or is blank.
        """
        if audience == self._audience:
            return self
        setup = self._setup
        if setup is _registry.setup:
            return MCPTokenProvider.get_instance(audience)
        known: dict[str | None, MCPTokenProvider] = setup.by_audience
        if (kept := known.get(audience)) is not None:
            return kept
        made = _make(setup, audience)
        with setup.lock:
            return keep(known, audience, made, MAX_AUDIENCES)

    @classmethod
    def configure(
        cls,
        *,
        settings: Settings | None = None,
        gate: Gate | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Replace the process-wide set-up; adapters that exist already follow.

        Each argument means what it means to the constructor: what is not given comes from the
        environment again.
        """
        setup = Configuration(settings, gate, clock)  # without the lock: a gate may make a call
        with _registry.lock:
            _registry.setup, _registry.has_complained = setup, False
            _instances.clear()

    @classmethod
    def reset(cls) -> None:
        """Return to the environment, and forget every token."""
        cls.configure()

    @classmethod
    def get_token(cls, audience: str | None = None) -> str | None:
        """Return the token for `audience`, or None. Never raises."""
        return get_token(audience)

    @classmethod
    def get_auth_headers(cls, audience: str | None = None) -> dict[str, str]:
        """Return the headers for `audience`; ``{}`` when there is no token. Never raises."""
        return get_auth_headers(audience)

    def stats(self) -> ProviderStats:
        """Return what this provider did so far, in numbers."""
        from .stats import provider_stats  # seldom asked for, and not free to import

        return provider_stats(self.counters)

    def __copy__(self) -> MCPTokenProvider:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> MCPTokenProvider:
        return self

    def __reduce__(self) -> tuple[Callable[..., MCPTokenProvider], tuple[object, ...]]:
        if self._setup is _registry.setup:
            return MCPTokenProvider.get_instance, (self._audience,)
        return _rebuild, (*self._setup.given, self._audience)

    def __repr__(self) -> str:
        audience = "" if self._audience is None else f" audience={self._audience!r}"
        outcome = "none yet" if self._said is None else self._latest.outcome
        return f"<MCPTokenProvider{audience} last outcome: {outcome}>"


def _rebuild(
    settings: Settings | None, gate: Gate | None, clock: Clock | None, audience: str | None
) -> MCPTokenProvider:
    return _make(Configuration(settings, gate, clock), audience)


def _make(setup: Configuration, audience: str | None) -> MCPTokenProvider:
    if audience is not None:
        check_audience(audience)
    provider = MCPTokenProvider.__new__(MCPTokenProvider)
    LeasedProvider.__init__(provider, setup, audience)
    return provider


class _Registry:
    """The process-wide set-up and the lock that guards it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.setup: Configuration | None = None
        self.has_complained = False

    def instance(self, audience: str | None) -> MCPTokenProvider:
        """Return the instance for `audience`, made at need.

        It is made without the lock, which guards what becomes of it: that may run code of the
        application's.
        """
        while True:
            setup = self._current()
            made = _make(setup, audience)
            with self.lock:
                if self.setup is setup:  # else `configure` was called in the meantime
                    return keep(_instances, audience, made, MAX_AUDIENCES)

    def _current(self) -> Configuration:
        setup = self.setup
        if setup is None:
            made = Configuration(None, None, None)
            with self.lock:
                # Another thread may have made one in the meantime.
                self.setup = setup = self.setup or made
        return setup

    def after_fork(self) -> None:
        self.lock = threading.RLock()
        for audience, instance in list(_instances.items()):
            if instance._setup is not self.setup:  # forked in the middle of `configure`
                del _instances[audience]


_registry: Final = _Registry()
_instances: Final[dict[str | None, MCPTokenProvider]] = {}

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_registry.after_fork)


def get_token(audience: str | None = None) -> str | None:
    """Return the token for a call made now, or None: send the call without one.

    Safe from any thread; never raises.

    Args:
        audience: The server's `aud`; None is the configured one.
    """
    try:
        instance = _instances[audience]
    except (KeyError, TypeError):  # not made yet; not even hashable
        made = _instance_or_none(audience)
        return None if made is None else made.token()
    # The body of `LeasedProvider.leased`, for one call less on the hottest path.
    decision = instance._decision
    if decision.valid_from <= instance._clock.monotonic() < decision.valid_until:
        return decision.token
    return instance.token()


def get_auth_headers(audience: str | None = None) -> dict[str, str]:
    """Return ``{"Authorization": "Bearer <jwt>"}`` for a call made now, ``{}`` without a token.

    The dict is new at each call and the caller's own. Never raises.
    """
    instance = _instance_or_none(audience)
    return {} if instance is None else instance.headers()


def is_enabled() -> bool:
    """Return whether a call made now would carry a token. Never raises."""
    return get_token() is not None


def diagnose() -> TokenStatus:
    """Return what a call made now would carry, and why; safe to print. Never raises."""
    return MCPTokenProvider.get_instance().status()


def _instance_or_none(audience: str | None) -> MCPTokenProvider | None:
    try:
        return _instances.get(audience) or MCPTokenProvider.get_instance(audience)
    except (SettingsError, TypeError) as error:
        if not _registry.has_complained:  # once: whoever gives no audience gives none at each call
            _registry.has_complained = True
            log(logging.WARNING, "MCP auth %s: %s", Outcome.INVALID_CONFIG, error)
        return None
