"""What `configure` sets: where settings, keys, the flag's answer and the time come from."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from manor_mcp_interceptors._flags.evaluation import FlagPoll
from manor_mcp_interceptors._flags.gates import FlagAnswer, FlagQuestion
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.protocols import Clock, Gate
from manor_mcp_interceptors.settings import Settings, flag_and_subject

DEFAULTS: Final = Settings()


class Leaseholder(Protocol):
    """A provider, as its set-up sees it."""

    def end_lease(self) -> None: ...
    def after_fork(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SettingsSnapshot:
    """The settings at one look: usable, or the error that says why not."""

    question: FlagQuestion
    settings: Settings
    """The defaults where there is an `error`."""
    error: SettingsError | None = None

    def warnings(self) -> list[str]:
        """Return what an operator should know about settings that are usable."""
        if self.settings.margin_seconds < self.settings.ttl_seconds:
            return []
        margin, lifetime = self.settings.margin_seconds, self.settings.ttl_seconds
        names = f"MCP_AUTH_MARGIN_SECONDS={margin} is not below MCP_AUTH_TTL_SECONDS={lifetime}"
        return [f"{names}: a token is used until it expires"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a provider decides from, for the doctor. Its keys hold secrets."""

    given: Settings | None
    """The settings that were given in code; None: they are the environment's."""
    snapshot: SettingsSnapshot
    answer: FlagAnswer
    """The flag's answer in the latest decision."""
    gate: str
    """Who answers for the flag: ``environment``, ``OpenFeature``, a gate's class."""
    keys: KeySource
    audience: str | None
    """The audience that the provider was made for; None: the configured one."""


class Configuration:
    """One configuration, shared by the providers of all audiences."""

    def __init__(self, settings: Settings | None, gate: Gate | None, clock: Clock | None) -> None:
        self.given: Final = (settings, gate, clock)
        self._settings = settings
        self.clock: Final[Clock] = time if clock is None else clock
        self.keys: Final = KeySource(in_code=settings is not None)
        self.flags: Final = FlagPoll(gate, self.end_leases)
        # A WeakSet would take half as much again for each of a thousand audiences.
        self._providers: list[weakref.ref[Leaseholder]] = []
        self._prune_at = 64
        self.by_audience: Final[dict[str | None, Any]] = {}
        """The providers that were made from one of one's own, for other audiences than its own."""
        self._warnings = LogThrottle()
        self.lock = threading.RLock()
        """One for the providers as well, which hold it for a few microseconds.

        Re-entrant, as every lock here: a finalizer or a signal handler may make a call anywhere,
        and in the middle of what a lock guards it is on the thread that holds it.
        """
        _setups.add(self)

    def read_settings(self, audience: str | None) -> SettingsSnapshot:
        """Read the settings as they are now, for `audience` or the configured one."""
        try:
            settings = Settings.from_env() if self._settings is None else self._settings
            if audience is not None:
                settings = replace(settings, audience=audience)
        except SettingsError as error:
            flag, subject = flag_and_subject(os.environ)
            question = FlagQuestion(flag, subject, DEFAULTS.issuer, DEFAULTS.audience)
            return SettingsSnapshot(question, DEFAULTS, error)
        question = FlagQuestion(
            settings.feature_flag, settings.subject, settings.issuer, settings.audience
        )
        return SettingsSnapshot(question, settings)

    def warn(self, warnings: Iterable[str]) -> None:
        """Log each warning that did not hold at the last recheck."""
        for text in self._warnings.new(warnings):
            log(logging.WARNING, "%s", text)

    def register(self, provider: Leaseholder) -> None:
        """Keep `provider` informed for as long as it lives."""
        with self.lock:
            self._providers.append(weakref.ref(provider))
            count = len(self._providers)
            if count > self._prune_at:
                self._prune_at = 2 * count  # before a finalizer's call can come here, too
                alive = [known for known in self._providers[:count] if known() is not None]
                self._providers[:count] = alive
                self._prune_at = max(64, 2 * len(alive))

    def end_leases(self) -> None:
        """Have every provider decide anew at its next call."""
        with self.lock:
            providers = list(self._providers)
        for known in providers:
            if (provider := known()) is not None:
                provider.end_lease()

    def after_fork(self) -> None:
        self.lock = threading.RLock()
        self.flags.after_fork()
        for known in list(self._providers):
            if (provider := known()) is not None:
                provider.after_fork()


_T = TypeVar("_T")


def keep(known: dict[str | None, _T], audience: str | None, made: _T, limit: int) -> _T:
    """Return what is `known` for `audience`: `made`, where there was nothing; hold a lock.

    At the `limit` the oldest makes room, but never the configured audience's.
    """
    kept = known.get(audience)
    if kept is None:
        if len(known) >= limit:
            del known[next(name for name in list(known) if name is not None)]
        known[audience] = kept = made
    return kept


def check_audience(audience: str) -> None:
    """Raise SettingsError where `audience` is not text, or is blank."""
    if not isinstance(audience, str) or not audience.strip():
        raise SettingsError("an audience is text that is not blank", variable="audience")


_setups: Final[weakref.WeakSet[Configuration]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for setup in list(_setups):
        setup.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
