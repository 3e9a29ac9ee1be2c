"""Judge a token by the settings and secrets in force now. Nothing in here raises."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from jwt.exceptions import (
    InvalidAlgorithmError,
    InvalidSignatureError,
    InvalidTokenError,
    PyJWTError,
)
from jwt.utils import base64url_decode

from manor_mcp_interceptors._bearer import parse_bearer
from manor_mcp_interceptors._keys.hs256 import ALGORITHMS, new_jws
from manor_mcp_interceptors._keys.keys import KeySource, VerificationKeys
from manor_mcp_interceptors._telemetry.counters import TOTALS, Counters, look_for_telemetry
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.protocols import Clock
from manor_mcp_interceptors.settings import Settings

from ._claims import Acceptance, Rules, VerifiedToken, judge_claims, parse_object
from ._memory import CAPACITY, Memory
from ._rejections import Rejections
from .reasons import Reason, Refused

MAX_TOKEN_LENGTH: Final = 8192
"""Characters. Web servers allow a header about as much."""

# Three parts of base64url without padding, the last one as long as an HS256 signature is; an
# unsigned token may leave it out, to be refused for its algorithm.
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)

_jws: Final = new_jws()

_DEFAULT_RECHECK: Final = Settings().recheck_seconds
"""For settings that cannot be read; known once, not checked anew at each look."""


@dataclass(frozen=True, slots=True)
class _Law:
    """What was in force at one look, and what was accepted under it."""

    rules: Rules | None
    keys: VerificationKeys | None = field(repr=False)
    problem: SettingsError | None
    """Why nothing can be accepted, where `rules` and `keys` are None."""
    looked_at: float
    valid_until: float
    memory: Memory = field(repr=False)
    at_hand: dict[str, Acceptance] = field(repr=False)
    """Tokens seen since that look, as they came: a digest costs more than all the rest.

    Each is good for no longer than this law, and goes with it; what outlasts it is the digest.
    """

    def keep_at_hand(self, token: str, acceptance: Acceptance) -> None:
        """Have the next look at `token` find it as it is, for as long as this law is in force."""
        if len(self.at_hand) < CAPACITY:
            since = max(self.looked_at, acceptance.valid_from)
            until = min(self.valid_until, acceptance.valid_until)
            self.at_hand[token] = replace(acceptance, valid_from=since, valid_until=until)


class Judge:
    """Accepts or refuses tokens. Safe from any thread."""

    __slots__ = (
        "_clock",
        "_given",
        "_keys",
        "_law",
        "_leeway",
        "_remembered",
        "_subjects",
        "_tally",
        "_warnings",
        "counters",
    )

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        leeway_seconds: float = 0.0,
        allowed_subjects: Iterable[str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._given = settings
        self._leeway = leeway_seconds
        self._subjects = None if allowed_subjects is None else frozenset(allowed_subjects)
        self._clock: Clock = time if clock is None else clock
        self._keys = KeySource(in_code=settings is not None)
        self.counters: Counters = Counters(TOTALS)
        self._tally = Rejections(self.counters)
        self._remembered = self.counters.handles("verifications", "remembered")
        self._warnings = LogThrottle()
        self._law = self._look()
        self._report(self._law)

    @property
    def problem(self) -> SettingsError | None:
        """What was wrong with settings or secrets at the last look."""
        keys = self._law.keys
        return self._law.problem if keys is None else keys.problem

    def judge(self, token: str) -> VerifiedToken | Reason:
        """Return the claims of `token`, or why it is refused, which is counted and logged."""
        law, now = self._law, self._clock.time()
        try:
            known = law.at_hand.get(token) if isinstance(token, str) else None
            if known is not None and known.valid_from <= now < known.valid_until:
                for tick in self._remembered:
                    next(tick)
                return known.token
            # By the wall clock alone: a clock that was set back ends the lease as well.
            if not law.looked_at <= now < law.valid_until:
                law = self._renew(law)
            return _judge(token, law, now, self.counters)
        except Refused as refused:
            reason = refused.reason
        except Exception as error:  # whatever it was: never in, and never a crash
            # The type alone: an error's text may hold what was being judged.
            return self._refuse(Reason.INTERNAL, now, type(error).__name__)
        return self._refuse(reason, now)

    def judge_authorization(self, values: Sequence[str]) -> VerifiedToken | Reason:
        """As `judge`, of every ``Authorization`` value that came with one call."""
        reason = Reason.MISSING
        if len(values) > 1:
            reason = Reason.MULTIPLE
        elif values and values[0].strip():
            token = parse_bearer(values[0])
            if token is not None:
                return self.judge(token)
            reason = Reason.NOT_BEARER
        return self._refuse(reason, self._clock.time())

    def _refuse(self, reason: Reason, now: float, detail: str = "") -> Reason:
        self._tally.add(reason, now, detail)
        look_for_telemetry()
        return reason

    def _renew(self, law: _Law) -> _Law:
        """Look at settings and secrets again. Two threads at once do no harm: each looks."""
        fresh = self._look()
        if (fresh.rules, fresh.keys) == (law.rules, law.keys):
            fresh = replace(fresh, memory=law.memory)
        else:  # each step of a rotation can be seen to have arrived
            log(logging.INFO, "MCP auth verification: settings or secrets have changed")
        self._law = fresh
        self._report(fresh)
        return fresh

    def _look(self) -> _Law:
        now, recheck = self._clock.time(), _DEFAULT_RECHECK
        try:
            settings = Settings.from_env() if self._given is None else self._given
            recheck = settings.recheck_seconds
            keys = self._keys.verification_keys(settings)
        except SettingsError as error:
            return _Law(None, None, error, now, now + recheck, Memory(), {})
        rules = Rules(settings.issuer, settings.audience, self._leeway, self._subjects)
        return _Law(rules, keys, None, now, now + recheck, Memory(), {})

    def _report(self, law: _Law) -> None:
        """Log what holds now and did not at the last look."""
        keys = [] if law.keys is None else law.keys.warnings()
        problem = [] if law.problem is None else [f"no token is accepted: {law.problem}"]
        for text in self._warnings.new([*keys, *problem]):
            log(logging.WARNING, "MCP auth verification: %s", text)


def _judge(token: str, law: _Law, now: float, counters: Counters) -> VerifiedToken:
    if law.keys is None or law.rules is None:
        missing = law.problem is not None and law.problem.outcome is Outcome.NOT_CONFIGURED
        raise Refused(Reason.NOT_CONFIGURED if missing else Reason.INVALID_CONFIG)
    if not isinstance(token, str) or not token.isascii():  # a surrogate has not even a digest
        raise Refused(Reason.MALFORMED)
    if len(token) > MAX_TOKEN_LENGTH:
        raise Refused(Reason.TOO_LARGE)
    known = law.memory.find(token)
    acceptance = known or judge_claims(_signed_payload(token, law.keys), law.rules)
    caller = acceptance.at(now)
    if known is None:
        law.memory.add(token, acceptance)
        look_for_telemetry()
    counters.count("verifications", "accepted" if known is None else "remembered")
    law.keep_at_hand(token, acceptance)
    return caller


def _signed_payload(token: str, keys: VerificationKeys) -> bytes:
    """Return the payload of `token`, which a secret in use has signed."""
    if not _SHAPE.fullmatch(token):
        raise Refused(Reason.MALFORMED)
    try:
        key_id = None
        if keys.current.key_id is not None:
            key_id = _jws.get_unverified_header(token).get("kid")
        candidates = keys.keys_for(key_id)
        for key in candidates:
            with suppress(InvalidSignatureError):
                jws = _jws.decode_complete(token, key.secret, ALGORITHMS)
                return _payload(jws, token)
    except InvalidAlgorithmError:
        raise Refused(Reason.ALGORITHM) from None
    except (PyJWTError, ValueError, RecursionError) as error:
        # PyJWT raises the base class itself for a header that it understands and refuses.
        header = type(error) is InvalidTokenError
        raise Refused(Reason.HEADER if header else Reason.MALFORMED) from None
    raise Refused(Reason.SIGNATURE if candidates else Reason.UNKNOWN_KEY)


def _payload(jws: dict[str, Any], token: str) -> bytes:
    _check_header(token.partition(".")[0])
    if "crit" in jws["header"]:  # PyJWT takes RFC 7797's b64, which no token of ours has
        raise Refused(Reason.HEADER)
    payload: bytes = jws["payload"]
    return payload


@lru_cache(maxsize=16)  # the tokens of one caller begin alike
def _check_header(encoded: str) -> None:
    """Raise Refused for a header with a name twice, of which PyJWT believes the last."""
    parse_object(base64url_decode(encoded))
