"""Provider configuration: where settings, keys, the flag's answer and the time come from."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard

from manor_mcp_interceptors._flags.evaluation import FlagEvaluator
from manor_mcp_interceptors._flags.gates import FlagAnswer, FlagQuestion
from manor_mcp_interceptors._keys.given_token import GivenToken
from manor_mcp_interceptors._keys.keys import Credential, KeySource
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors._telemetry.secrets_in_use import secrets_in_use
from manor_mcp_interceptors._waiting import reset_after_fork
from manor_mcp_interceptors.errors import SettingsError, import_problem
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.protocols import Clock, Gate, TokenSource
from manor_mcp_interceptors.settings import Settings, flag_and_subject

from .token_cache import TokenCache, TokenInUse

if TYPE_CHECKING:
    from manor_mcp_interceptors._keys.token_source import AskedTokens

DEFAULTS: Final = Settings()


@dataclass(frozen=True, slots=True)
class SettingsSnapshot:
    """Settings as read at one recheck, or the error."""

    question: FlagQuestion
    settings: Settings
    """The defaults if there is an `error`."""
    error: SettingsError | None = None

    def warnings(self) -> list[str]:
        """Return what an operator should know about settings that are usable."""
        if self.settings.margin_seconds < self.settings.ttl_seconds:
            return []
        margin, lifetime = self.settings.margin_seconds, self.settings.ttl_seconds
        names = f"MCP_AUTH_MARGIN_SECONDS={margin} is not below MCP_AUTH_TTL_SECONDS={lifetime}"
        return [f"{names}: a token is used until it expires"]


UNREAD: Final = SettingsSnapshot(
    FlagQuestion(DEFAULTS.feature_flag, DEFAULTS.subject, DEFAULTS.issuer, DEFAULTS.audience),
    DEFAULTS,
    SettingsError("the settings could not be read"),
)
"""Stands for settings whose reading has failed."""


CredentialOrProblem: TypeAlias = "Credential | SettingsError | None"
"""What a token comes from, or why there is none; None if it was not read."""


def is_credential(found: CredentialOrProblem) -> TypeGuard[Credential]:
    """Return whether there is a key or a token."""
    return not (found is None or isinstance(found, SettingsError))


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
    token_source: str | None
    """The name of the token source in code; None if there is none."""
    credential: CredentialOrProblem
    """What the latest decision was made from; None if the flag was off."""
    audience: str | None
    """The audience that the provider was made for; None: the configured one."""


class _Lease(Protocol):
    def end(self) -> None: ...


class Configuration:
    """One configuration, shared by the providers of all audiences."""

    def __init__(
        self,
        settings: Settings | None,
        gate: Gate | None,
        clock: Clock | None,
        token_source: TokenSource | None,
    ) -> None:
        """Take what `MCPTokenProvider` takes.

        Raises:
            SettingsError: The gate or the token source is malformed.
        """
        self.settings: Final = settings
        self.gate: Final = gate
        self.given_clock: Final = clock
        self.given_token_source: Final = token_source
        self.clock: Final[Clock] = time if clock is None else clock
        self.keys: Final = KeySource(in_code=settings is not None)
        self._leases: weakref.WeakSet[_Lease] = weakref.WeakSet()
        self._warnings = LogThrottle()
        self.after_fork()
        reset_after_fork(self)
        self.flags: Final = FlagEvaluator(gate, self.end_leases)
        self._source: Final = self._asked(token_source)

    def _asked(self, token_source: TokenSource | None) -> AskedTokens | None:
        if token_source is None:
            return None
        from manor_mcp_interceptors._keys.token_source import AskedTokens  # rarely used

        return AskedTokens(token_source, self.clock, self.end_leases)

    @property
    def token_source_name(self) -> str | None:
        """The name of the token source in code; None if there is none."""
        return None if self._source is None else self._source.name

    def after_fork(self) -> None:
        """Start with a free lock: in a forked child, the thread that held it is gone."""
        # Re-entrant: a finalizer or a signal handler may make a call on the thread that holds it.
        self.lock: Any = threading.RLock()

    def read_settings(self, audience: str | None) -> SettingsSnapshot:
        """Read the settings as they are now, for `audience` or the configured one."""
        try:
            settings = Settings.from_env() if self.settings is None else self.settings
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

    def credential(
        self, snapshot: SettingsSnapshot, cache: TokenCache, max_wait: float | None = None
    ) -> CredentialOrProblem:
        """Read the key or the token; return why there is none instead of raising it.

        Args:
            snapshot: The settings.
            cache: Holds the token that calls carry now. If a new one is due, the source is asked.
            max_wait: Seconds to wait for a token source at most; None is this library's own limit.
        """
        if self._source is None:
            return self._read_credential(snapshot)
        audience = snapshot.settings.audience
        use = cache.in_use(audience)
        return self._without_asking(snapshot, use) or self._source.ask(
            audience, use.given, is_refused=use.is_refused, max_wait=max_wait
        )

    async def credential_async(
        self, snapshot: SettingsSnapshot, cache: TokenCache, max_wait: float | None = None
    ) -> CredentialOrProblem:
        """As `credential`; the event loop continues while a token source is asked."""
        if self._source is None:
            return self._read_credential(snapshot)
        audience = snapshot.settings.audience
        use = cache.in_use(audience)
        return self._without_asking(snapshot, use) or await self._source.ask_async(
            audience, use.given, is_refused=use.is_refused, max_wait=max_wait
        )

    def known_credential(
        self, snapshot: SettingsSnapshot, cache: TokenCache
    ) -> CredentialOrProblem:
        """As `credential`, but a token source is not asked: None if it has given no token yet."""
        if self._source is None:
            return self._read_credential(snapshot)
        use = TokenInUse(cache.given(snapshot.settings.audience))
        return self._without_asking(snapshot, use)

    def _without_asking(self, snapshot: SettingsSnapshot, use: TokenInUse) -> CredentialOrProblem:
        """Return what a token source need not be asked for; None if a new token is due."""
        assert self._source is not None
        if (problem := self._misconfigured(snapshot)) is not None:
            return problem
        late = self._source.late(snapshot.settings.audience, use.given)
        return late or (None if use.is_due else use.given)

    def _misconfigured(self, snapshot: SettingsSnapshot) -> SettingsError | None:
        """Return why a token source is not asked."""
        if snapshot.error is not None:
            return snapshot.error
        try:
            self.keys.check_sources(snapshot.settings, "token_source")
        except SettingsError as error:
            return error.with_traceback(None)
        return None

    def _read_credential(self, snapshot: SettingsSnapshot) -> CredentialOrProblem:
        if snapshot.error is not None:
            return snapshot.error
        try:
            return self.keys.credential(snapshot.settings)
        except ImportError as error:
            return SettingsError(import_problem(error), outcome=Outcome.PYJWT_MISSING)
        except SettingsError as error:
            return error.with_traceback(None)  # its frames hold the secret's objects
        except Exception as error:  # PyJWT, or a module that it imports, is broken
            reason = f"the key cannot be checked ({type(error).__name__})"
            return SettingsError(reason, outcome=Outcome.SIGNING_FAILED)

    def fingerprints(self) -> list[tuple[str, str]]:
        """Return the one of the key that signs, or would if the flag were on; with its role."""
        key = None if self._source else self._read_credential(self.read_settings(None))
        if not is_credential(key) or isinstance(key, GivenToken):
            return []
        return [("signing", key.fingerprint())]

    def warn(self, snapshot: SettingsSnapshot, credential: Credential) -> None:
        """Log each warning that did not hold at the last recheck."""
        for text in self._warnings.new([*snapshot.warnings(), *credential.warnings]):
            log(logging.WARNING, "%s", text)

    def add(self, lease: _Lease) -> None:
        """Register `lease`, so that `end_leases` ends it. It is held weakly."""
        secrets_in_use.add(self)  # now, as a process that only verifies has no lease
        with self.lock:
            self._leases.add(lease)

    def end_leases(self) -> None:
        """Have every provider decide again at its next call."""
        with self.lock:
            leases = list(self._leases)
        for lease in leases:
            lease.end()
