"""The decision itself: the questions in their order, and the answer in words."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Final

from manor_mcp_interceptors._bearer import METADATA_KEY, format_bearer
from manor_mcp_interceptors._flags.gates import FlagAnswer
from manor_mcp_interceptors._hosts import compile_hosts
from manor_mcp_interceptors._telemetry.log import log
from manor_mcp_interceptors.errors import SettingsError, import_problem
from manor_mcp_interceptors.outcomes import Decision, Outcome, TokenStatus

from .configuration import Configuration, SettingsSnapshot
from .token_cache import TokenCache

NEVER: Final = float("-inf")
"""The end of a lease that nobody holds."""
UNDECIDED: Final = Decision(
    None, None, None, Outcome.SIGNING_FAILED, "no decision was reached in time", NEVER
)

LOOK_SECONDS: Final = 0.002
"""How often a coroutine looks whether the decision of another thread is there."""

_ALL_IS_WELL: Final = (Outcome.OK, None)

Said = tuple[Outcome, str | None]
"""What was logged last: the outcome, and what is wrong about it."""


class Flight:
    """One thread's decision on its way, for others to wait for.

    That thread itself must not: a log handler in the middle of the decision may make a call. Nor
    may the lock of an Event be held by one that waits, whose finalizers may make a call as well.
    """

    __slots__ = ("_leader", "_lock", "has_landed")

    def __init__(self) -> None:
        self._leader = threading.get_ident()
        self._lock = threading.Lock()
        self._lock.acquire()
        self.has_landed: bool = False

    def land(self) -> None:
        """Let all go on who wait."""
        self.has_landed = True
        self._lock.release()

    def wait(self, seconds: float) -> None:
        """Wait for the decision; not at all on the thread that makes it."""
        waits = not self.has_landed and self._leader != threading.get_ident()
        if waits and self._lock.acquire(timeout=seconds):
            self._lock.release()  # to the next one

    async def wait_async(self, seconds: float) -> None:
        """As `wait`, on asyncio's loop, which goes on meanwhile."""
        import asyncio  # loaded already: its loop is running

        until = time.monotonic() + seconds
        while not self.has_landed and time.monotonic() < until:  # noqa: ASYNC110 - another thread does it
            await asyncio.sleep(LOOK_SECONDS)


def decide(
    setup: Configuration, cache: TokenCache, view: SettingsSnapshot, answer: FlagAnswer
) -> tuple[Decision, str | None]:
    """Ask in order: flag, settings, secret, token.

    Returns:
        The decision; and, with a token, why it is not as new as it should be, None where it is.
    """
    recheck = view.settings.recheck_seconds
    valid_until = setup.clock.monotonic() + recheck
    if not answer.enabled:
        return refusal(view, answer, valid_until), None
    try:
        if view.error is not None:
            raise view.error
        key = setup.keys.signing_key(view.settings)
    except SettingsError as error:
        return _no(error.outcome, str(error), valid_until), None
    except ImportError as error:
        return _no(Outcome.PYJWT_MISSING, import_problem(error), valid_until), None
    renewal = cache.renew(view.settings, key)
    if renewal.token is None:
        return _no(renewal.outcome, renewal.problem or "", valid_until), None
    setup.warn([*view.warnings(), *key.warnings])
    value = format_bearer(renewal.token)
    hosts = view.settings.allowed_hosts
    reason = f"flag {view.question.key} is on ({answer.source})"
    decision = Decision(
        renewal.token,
        value,
        (METADATA_KEY, value),
        Outcome.OK,
        # One text for all audiences.
        sys.intern(reason if renewal.problem is None else f"{reason}; {renewal.problem}"),
        setup.clock.monotonic() + min(recheck, renewal.good_for),
        None if hosts is None else compile_hosts(hosts),
    )
    return decision, renewal.problem


def refusal(view: SettingsSnapshot, answer: FlagAnswer, valid_until: float = NEVER) -> Decision:
    """Return the decision of a flag that is not on."""
    if answer.invalid:
        return _no(Outcome.INVALID_CONFIG, answer.problem or "", valid_until)
    reason = f"flag {view.question.key} is off ({answer.source})"
    return _no(Outcome.FLAG_OFF, reason, valid_until)


def _no(outcome: Outcome, reason: str, valid_until: float) -> Decision:
    return Decision(None, None, None, outcome, reason, valid_until)


def describe(
    setup: Configuration,
    view: SettingsSnapshot,
    decision: Decision,
    answer: FlagAnswer,
    expires_in: float | None,
) -> TokenStatus:
    """Return `decision` as an operator wants to read it."""
    known = view.settings if view.error is None else None
    try:
        source = None if known is None else setup.keys.signing_key(known).source
    except (SettingsError, ImportError):
        source = None
    return TokenStatus(
        outcome=decision.outcome,
        reason=decision.reason,
        flag=view.question.key,
        flag_enabled=answer.enabled,
        flag_source=answer.source,
        issuer=known.issuer if known else None,
        audience=known.audience if known else None,
        subject=known.subject if known else None,
        secret_source=source,
        seconds_to_expiry=expires_in,
    )


def to_say(decision: Decision, problem: str | None) -> Said:
    """Return what the log should know of `decision`."""
    on = decision.outcome is Outcome.OK
    news = (decision.outcome, problem if on else decision.reason)
    return _ALL_IS_WELL if news == _ALL_IS_WELL else news  # one object for all audiences


def announce(decision: Decision, news: Said) -> None:
    """Log `decision`, which is `news`."""
    quiet = decision.outcome is Outcome.FLAG_OFF or news == _ALL_IS_WELL
    level = logging.INFO if quiet else logging.WARNING
    log(level, "MCP auth %s: %s", decision.outcome, decision.reason)
