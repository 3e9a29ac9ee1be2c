"""Verify tokens by the settings and secrets in force now. Nothing in here raises to the caller."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from jwt.exceptions import InvalidSignatureError, PyJWTError
from jwt.utils import base64url_decode

from manor_mcp_interceptors._bearer import parse_bearer
from manor_mcp_interceptors._keys.jws import verify
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.public_key import PublicKey
from manor_mcp_interceptors._keys.verification_keys import VerificationKey, VerificationKeys
from manor_mcp_interceptors._subjects import Subjects
from manor_mcp_interceptors._telemetry.counters import (
    KEY_NAMES,
    TOTALS,
    Counters,
    look_for_telemetry,
)
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors._telemetry.secrets_in_use import secrets_in_use
from manor_mcp_interceptors._waiting import LOOP_WAIT
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.protocols import Clock, Gate
from manor_mcp_interceptors.settings import Settings, enforcement_settings

from ._claims import ClaimRules, VerifiedClaims, VerifiedToken, parse_object, verify_claims
from ._enforcement import Enforcement, EnforcementRule, Mode, rule_of
from ._observation import ObservedCalls, Peer
from ._previous_key import PreviousKeyLog
from ._scopes import required
from .reasons import Reason, Refused, Unverified

MAX_TOKEN_LENGTH: Final = 8192
"""Characters. Web servers allow a header about as much."""
CAPACITY: Final = 4096
"""Up to twice as many tokens are remembered, at about a kilobyte each."""
MAX_KEYS_SHOWN: Final = 64
"""How many public keys a metric shows."""
LOG_EVERY_SECONDS: Final = 60.0
"""How often a refusal is logged, for each reason."""

# Three parts of base64url without padding. The signature may be empty or have any length here:
# a token that is unsigned or has another algorithm is refused for its algorithm.
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)

_DEFAULT_RECHECK: Final = Settings().recheck_seconds
"""For settings that cannot be read."""

Accepts = Callable[[VerifiedToken], bool]
"""Whether one adapter can serve a caller whose token is good."""


@dataclass(frozen=True, slots=True)
class RememberedToken:
    """A verified token, and what to do if it comes again."""

    claims: VerifiedClaims
    ticks: tuple[Iterator[int], ...]
    """What counts it, by the key that signed it."""
    by_previous: bool
    """Whether that was a previous key, whose callers are named in the log."""


class VerifiedTokens:
    """Verified claims by a digest of the whole token. Bounded; threads may share it.

    Two dictionaries take turns: when the young one is full, it becomes the old one, and the
    entries of the old one are dropped unless they were found since. So a token in use survives
    a flood of others. Every step is one atomic operation: there is no lock.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[bytes, RememberedToken] = {}
        self._old: dict[bytes, RememberedToken] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, key: bytes) -> RememberedToken | None:
        """Return the token with digest `key`; None if it is not remembered."""
        known = self._young.get(key)
        if known is None and (known := self._old.get(key)) is not None:
            self.add(key, known)
        return known

    def add(self, key: bytes, token: RememberedToken) -> None:
        """Remember the token with digest `key`."""
        if len(self._young) >= CAPACITY:
            self._old, self._young = self._young, {}
        self._young[key] = token


@dataclass(frozen=True, slots=True)
class _TrustSnapshot:
    """Keys and claim rules read at one recheck."""

    rules: ClaimRules | None
    keys: VerificationKeys | None = field(repr=False)
    problem: SettingsError | None
    """Why no token can be accepted; `rules` and `keys` are then None."""
    enforcement: EnforcementRule
    read_at: float
    valid_until: float
    tokens: VerifiedTokens = field(default_factory=VerifiedTokens, repr=False)
    """The tokens verified with these keys and rules."""

    def trusts_the_same(self, other: _TrustSnapshot) -> bool:
        return (self.rules, self.keys) == (other.rules, other.keys)


class Verification:
    """Accepts or refuses tokens. Safe from any thread."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_enforcement",
        "_key_source",
        "_observed",
        "_previous_key",
        "_refusals",
        "_snapshot",
        "_subjects",
        "_warnings",
        "counters",
        "gate",
        "leeway_seconds",
        "other_issuers",
        "scopes",
        "settings",
        "subjects",
    )

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        leeway_seconds: float = 0.0,
        subjects: Iterable[str] | None = None,
        other_issuers: bool = False,
        scopes: Iterable[str] = (),
        gate: Gate | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings: Settings | None = settings
        self.scopes: tuple[str, ...] = required(scopes)
        self.leeway_seconds: float = leeway_seconds
        self.subjects: tuple[str, ...] | None = None if subjects is None else tuple(subjects)
        self._subjects = None if self.subjects is None else Subjects.of(self.subjects)
        self.other_issuers: bool = other_issuers
        self.gate: Gate | None = gate
        self._clock: Clock = time if clock is None else clock
        self._key_source = KeySource(in_code=settings is not None)
        self.counters: Counters = Counters(TOTALS)
        self._enforcement = Enforcement(gate)
        self._observed = ObservedCalls()
        self._refusals = LogThrottle(LOG_EVERY_SECONDS)
        self._previous_key = PreviousKeyLog()
        self._warnings = LogThrottle()
        self._snapshot = self._read()
        self._log_warnings(self._snapshot)
        secrets_in_use.add(self)

    @property
    def problem(self) -> SettingsError | None:
        """What was wrong with settings or secrets at the last recheck."""
        keys = self._snapshot.keys
        return self._snapshot.problem if keys is None else next(iter(keys.problems), None)

    def is_ready(self) -> bool:
        """Return whether there is a usable key now."""
        snapshot = self._current()
        return snapshot.problem is None

    @property
    def may_observe(self) -> bool:
        """Whether the settings name observe mode, or a flag that may switch to it."""
        rule = self._snapshot.enforcement
        return not rule.is_enforced or rule.question is not None

    def all_scopes(self, scopes: Iterable[str]) -> tuple[str, ...]:
        """Return what a call needs for which `scopes` are required: the verifier's as well."""
        return tuple(dict.fromkeys((*self.scopes, *scopes)))

    def check_token(self, token: str, scopes: Sequence[str] = ()) -> VerifiedToken | Reason:
        """Return the claims of `token`, or why it is refused, whatever the mode.

        Args:
            token: The token.
            scopes: Those that this call requires beside the verifier's.
        """
        result = self.verify_token(token, scopes)
        return result if isinstance(result, VerifiedToken) else self.refuse(result)

    def check_authorization(
        self, values: Sequence[str], scopes: Sequence[str] = ()
    ) -> VerifiedToken | Reason:
        """As `check_token`, for all ``Authorization`` values of one call."""
        result = self.verify_authorization(values, scopes)
        return result if isinstance(result, VerifiedToken) else self.refuse(result)

    def admit(
        self, values: Sequence[str], scopes: Sequence[str] = ()
    ) -> VerifiedToken | Unverified | Reason:
        """Return the caller; why the call is refused; or, in observe mode, that it is unverified.

        A call that is let through unverified must be passed to `observe`.
        """
        result = self.verify_authorization(values, scopes)
        if isinstance(result, VerifiedToken) or not self.is_enforced():
            return result
        return self.refuse(result)

    async def admit_async(
        self,
        values: Sequence[str],
        scopes: Sequence[str] = (),
        accepts: Accepts | None = None,
    ) -> VerifiedToken | Unverified | Reason:
        """As `admit`; the event loop continues while a flag is asked for the mode."""
        result = self.verify_authorization(values, scopes, accepts)
        if isinstance(result, VerifiedToken) or not await self.is_enforced_async():
            return result
        return self.refuse(result)

    def is_enforced(self, max_wait: float | None = LOOP_WAIT) -> bool:
        """Return whether a call without a valid token is refused; a change of it is logged.

        Args:
            max_wait: Seconds to wait for a slow flag; None is the library's limit.
        """
        return self._enforcement.is_on(self._current().enforcement, max_wait)

    def mode(self) -> Mode:
        """Return whether calls are refused, and why; it waits for the flag's first answer."""
        return self._enforcement.mode(self._current().enforcement, max_wait=None)

    async def is_enforced_async(self) -> bool:
        """As `is_enforced`; the event loop continues while a flag is asked."""
        return await self._enforcement.is_on_async(self._current().enforcement)

    def verify_token(
        self, token: str, scopes: Sequence[str] = (), accepts: Accepts | None = None
    ) -> VerifiedToken | Unverified:
        """Return the claims of `token`, or why it is not acceptable, which is not counted yet."""
        snapshot, now = self._snapshot, self._clock.time()
        try:
            # Wall-clock time only: the snapshot also ends when the clock is set back.
            if not snapshot.read_at <= now < snapshot.valid_until:
                snapshot = self._renew(snapshot)
            key = _digest(token)
            known = snapshot.tokens.find(key)
            if known is not None:
                caller = known.claims.at(now)
                if scopes or self.scopes or accepts:
                    self._check_call(caller, scopes, accepts)
                for tick in known.ticks:
                    next(tick)
                if known.by_previous:
                    self._previous_key.note(caller.subject, now)
                return caller
            return self._verify(token, key, snapshot, now, scopes, accepts)
        except Refused as refused:
            if self.other_issuers and _is_of_another_issuer(token, snapshot.rules):
                return Unverified(Reason.OTHER_ISSUER)
            return Unverified(refused.reason, refused.subject)
        except Exception as error:  # an unexpected error refuses the token; it never propagates
            # Only the type: the error's text may contain the token.
            return Unverified(Reason.INTERNAL, detail=type(error).__name__)

    def verify_authorization(
        self, values: Sequence[str], scopes: Sequence[str] = (), accepts: Accepts | None = None
    ) -> VerifiedToken | Unverified:
        """As `verify_token`, for all ``Authorization`` values of one call."""
        reason = Reason.MISSING
        if len(values) > 1:
            reason = Reason.MULTIPLE
        elif values and values[0].strip():
            token = parse_bearer(values[0])
            if token is not None:
                return self.verify_token(token, scopes, accepts)
            reason = Reason.NOT_BEARER
        return Unverified(reason)

    def refuse(self, call: Unverified) -> Reason:
        """Count and log a call that is refused; return why it is."""
        self._count("verifications", call)
        if call.reason is Reason.OTHER_ISSUER:
            return call.reason
        if count := self._refusals.due(call.reason, self._clock.time()):
            what = f"{call.reason}: {call.detail}" if call.detail else call.reason
            text = "MCP auth refused a call: %s (%d since the last such line)"
            log(logging.WARNING, text, what, count)
        return call.reason

    def observe(self, call: Unverified, peer: Callable[[], Peer]) -> None:
        """Count and log a call that is let through although it would be refused. Raises nothing.

        Args:
            call: Why it would be refused.
            peer: Returns who made it.
        """
        is_other = call.reason is Reason.OTHER_ISSUER
        self._count("verifications" if is_other else "observed", call)
        if not is_other:
            with suppress(Exception):  # a connection that knows no peer
                self._observed.log(call, peer, self._clock.time())

    def _count(self, counter: str, call: Unverified) -> None:
        self.counters.count(counter, call.reason.value)
        look_for_telemetry()

    def _verify(
        self,
        token: str,
        key: bytes,
        snapshot: _TrustSnapshot,
        now: float,
        scopes: Sequence[str],
        accepts: Accepts | None,
    ) -> VerifiedToken:
        """Verify a token that is not remembered, and remember it."""
        if snapshot.rules is None or snapshot.keys is None:
            raise Refused(_reason_for(snapshot.problem))
        payload, signed_by = _signed_payload(token, snapshot.keys)
        key_subjects = signed_by.subjects if isinstance(signed_by, PublicKey) else None
        claims = verify_claims(payload, snapshot.rules, key_subjects)
        caller = claims.at(now)
        name = KEY_NAMES(snapshot.keys.name_of(signed_by))
        by_previous = snapshot.keys.is_previous(signed_by)
        ticks = self.counters.handles("verifications", "remembered", name)
        snapshot.tokens.add(key, RememberedToken(claims, ticks, by_previous))
        self._check_call(caller, scopes, accepts)
        self.counters.count("verifications", "accepted", name)
        if by_previous:
            self._previous_key.note(caller.subject, now)
        look_for_telemetry()
        return caller

    def _current(self) -> _TrustSnapshot:
        snapshot = self._snapshot
        with suppress(Exception):  # an unexpected error keeps the last one; it never propagates
            if not snapshot.read_at <= self._clock.time() < snapshot.valid_until:
                return self._renew(snapshot)
        return snapshot

    def _check_call(
        self, caller: VerifiedToken, scopes: Sequence[str], accepts: Accepts | None
    ) -> None:
        # Remembered all the same: another route may require less.
        if accepts is not None and not accepts(caller):
            raise Refused(Reason.CLAIM_INVALID, caller.subject)
        if not {*self.scopes, *scopes}.issubset(caller.scopes):
            raise Refused(Reason.SCOPE, caller.subject)

    def fingerprints(self) -> list[tuple[str, str]]:
        """Return those of the keys that are accepted now, with their role."""
        keys = self._current().keys
        marks = [] if keys is None else [key.fingerprint() for key in keys.secrets]
        if keys is not None and keys.public is not None:
            marks += list(keys.public.keys)[:MAX_KEYS_SHOWN]
        return [("verifying", mark) for mark in marks]

    def _renew(self, last: _TrustSnapshot) -> _TrustSnapshot:
        """Read settings and secrets again. Two threads at once do no harm: each reads them."""
        fresh = self._read()
        if fresh.trusts_the_same(last):
            fresh = replace(fresh, tokens=last.tokens)
        else:
            log(logging.INFO, "MCP auth verification: settings or secrets have changed")
        self._snapshot = fresh
        self._log_warnings(fresh)
        return fresh

    def _read(self) -> _TrustSnapshot:
        now, recheck, rule = self._clock.time(), _DEFAULT_RECHECK, None
        try:
            settings = Settings.from_env() if self.settings is None else self.settings
            recheck, rule = settings.recheck_seconds, rule_of(settings)
            keys = self._key_source.verification_keys(settings)
        except SettingsError as error:
            rule = rule or rule_of(enforcement_settings(os.environ))
            return _TrustSnapshot(None, None, error, rule, now, now + recheck)
        rules = ClaimRules(
            settings.issuer,
            settings.audience,
            self.leeway_seconds,
            self._subjects_by(settings),
            requires_issued_at=settings.issued_at == "required",
        )
        return _TrustSnapshot(rules, keys, None, rule, now, now + recheck)

    def _subjects_by(self, settings: Settings) -> Subjects | None:
        if self._subjects is not None or settings.allowed_subjects is None:
            return self._subjects
        return Subjects.of(settings.allowed_subjects)

    def _log_warnings(self, snapshot: _TrustSnapshot) -> None:
        warnings = [] if snapshot.keys is None else snapshot.keys.warnings()
        if snapshot.problem is not None:
            warnings.append(f"no token is accepted: {snapshot.problem}")
        for text in self._warnings.new(warnings):
            log(logging.WARNING, "MCP auth verification: %s", text)


def _reason_for(problem: SettingsError | None) -> Reason:
    missing = problem is not None and problem.outcome is Outcome.NOT_CONFIGURED
    return Reason.NOT_CONFIGURED if missing else Reason.INVALID_CONFIG


def _digest(token: str) -> bytes:
    """Return the key that `token` is remembered by. Nobody can get the token back from it."""
    try:
        if len(token) <= MAX_TOKEN_LENGTH:
            return sha256(token.encode()).digest()  # faster than blake2b if the CPU helps
    except (AttributeError, TypeError, UnicodeError):  # not text, or with a lone surrogate
        raise Refused(Reason.MALFORMED) from None
    raise Refused(Reason.TOO_LARGE)


def _is_of_another_issuer(token: object, rules: ClaimRules | None) -> bool:
    """Return whether `token` does not even claim to be of the configured issuer.

    Nothing is trusted: the answer only says whether a refusal concerns this library's tokens. One
    that is no JWT, or too long for one of them, is of another issuer.
    """
    if rules is None or not isinstance(token, str):
        return False
    if len(token) > MAX_TOKEN_LENGTH or not _SHAPE.fullmatch(token):
        return True
    try:
        return parse_object(base64url_decode(token.split(".")[1])).get("iss") != rules.issuer
    except (Refused, ValueError):
        return True


def _signed_payload(token: str, keys: VerificationKeys) -> tuple[bytes, VerificationKey]:
    """Return the payload of `token` and the key that has signed it, if a key in use has."""
    if not _SHAPE.fullmatch(token):
        raise Refused(Reason.MALFORMED)
    try:
        header = _read_header(token.partition(".")[0])
        candidates = keys.keys_for(header.get("alg"), header.get("kid"))
        if candidates is None:
            raise Refused(Reason.ALGORITHM)
        for key in candidates:
            with suppress(InvalidSignatureError):
                return verify(token, key), key
    except (PyJWTError, ValueError, RecursionError):
        raise Refused(Reason.MALFORMED) from None
    raise Refused(Reason.SIGNATURE if candidates else Reason.UNKNOWN_KEY)


@lru_cache(maxsize=16)  # all tokens of one caller have the same header
def _read_header(encoded: str) -> Mapping[str, Any]:
    """Return the header; raise Refused if it is malformed or asks for something unsupported.

    Of the header, `alg` and `kid` are used, and only to find a key. A name that occurs twice is
    refused: PyJWT uses the last one, others the first.
    """
    header = parse_object(base64url_decode(encoded))
    if "crit" in header or not isinstance(header.get("kid", ""), str):
        raise Refused(Reason.HEADER)
    return header
