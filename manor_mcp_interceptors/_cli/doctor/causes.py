"""Why does a server refuse the token? It does not say; what it accepts instead does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from manor_mcp_interceptors._keys.keys import SigningKey, VerificationKeys
from manor_mcp_interceptors._keys.tokens import clock_skew, mint
from manor_mcp_interceptors.settings import Settings

from .answers import CLOCK_TOLERANCE, clock_words
from .checks import Check, State
from .fingerprint import fingerprint

_DEFAULTS: Final = Settings()
_LIFETIME: Final = 60
"""Seconds for which a token that is tried is valid: whoever is asked may keep it."""
_CLOCK_STEP: Final = 600
"""Seconds to try where the server does not tell its time."""
_MAX_STEP: Final = 31_536_000
_NTP: Final = "synchronise both clocks with NTP"
_NAME: Final = "call with the token"


@dataclass(frozen=True, slots=True)
class _Variant:
    """A token that differs in one thing, and what it means if the server accepts it."""

    settings: Settings
    key: SigningKey = field(repr=False)
    finding: str
    fix: str
    earlier: int = 0
    """Seconds by which it is dated back."""

    def token(self, longer: int) -> str:
        """Return it, dated as the refused one and dead in a minute, or `longer` seconds later."""
        back = clock_skew(self.settings)
        lifetime = min(self.settings.ttl_seconds, back + _LIFETIME + longer)
        dated = replace(self.settings, ttl_seconds=lifetime + self.earlier, clock_skew_seconds=0)
        return mint(dated, self.key, time.time() - back - self.earlier).value


def explain(
    status: str,
    settings: Settings,
    keys: VerificationKeys,
    accepts: Callable[[str], bool],
    *,
    audiences: Sequence[str] = (),
    clock_offset: float | None = None,
) -> Check:
    """Return the check that names the cause of a refusal.

    Each thing that could be wrong is tried with a token that differs in that alone. They are
    signed with secrets that this host has anyway and go to the server that is being asked, which
    may be nobody's friend: each dies within a minute or two, and none is dated ahead.

    Args:
        status: The refusal, in the transport's words.
        settings: What the refused token was made with.
        keys: The current secret and the previous one.
        accepts: Calls the server; returns whether it took the token.
        audiences: More audiences to try.
        clock_offset: Seconds by which the server's clock is ahead, where known.
    """
    if clock_offset is not None and (ahead := _far_ahead(settings, clock_offset)):
        return Check(_NAME, State.FAILED, f"{status}: {ahead}", _NTP)
    longer = min(max(0, round(clock_offset or 0)), _LIFETIME)
    for variant in _variants(settings, keys, audiences, clock_offset):
        if accepts(variant.token(longer)):
            return Check(_NAME, State.FAILED, f"{status}: {variant.finding}", variant.fix)
    mark = fingerprint(keys.current.secret)
    tried = ", ".join(_audiences(settings, audiences))
    finding = (
        f"{status}: the server holds another secret than this host (fingerprint {mark}),"
        f" or has no secret, or bad settings{_or_a_clock(clock_offset)},"
        f" or expects an audience that is not among {settings.audience}"
        f"{', ' if tried else ''}{tried}"
    )
    fix = (
        "run `manor-mcp doctor` on the server's host and compare fingerprint and audience,"
        " or `manor-mcp verify` there with this host's `manor-mcp token` as its input"
    )
    return Check(_NAME, State.FAILED, finding, fix)


def _variants(
    settings: Settings,
    keys: VerificationKeys,
    audiences: Sequence[str],
    clock_offset: float | None,
) -> Iterator[_Variant]:
    key = keys.current
    yield from _clock_variants(settings, key, clock_offset)
    if keys.previous is not None:
        yield _Variant(
            settings,
            keys.previous,
            "the server accepts the previous secret alone; it does not have the current one",
            "give the server the current secret, or go back to the previous one here until then",
        )
    if settings.key_id is not None:
        yield _Variant(
            settings,
            replace(key, key_id=None),
            f"the server does not know the key id {settings.key_id!r}",
            "set the same MCP_AUTH_KEY_ID at the server, or unset it here",
        )
    for audience in _audiences(settings, audiences):
        yield _Variant(
            replace(settings, audience=audience),
            key,
            f"the server expects the audience {audience!r}, not {settings.audience!r}",
            f"MCP_AUTH_AUDIENCE={audience}, or audience={audience!r} where the adapter is made",
        )
    if settings.issuer != _DEFAULTS.issuer:
        yield _Variant(
            replace(settings, issuer=_DEFAULTS.issuer),
            key,
            f"the server expects the issuer {_DEFAULTS.issuer!r}, not {settings.issuer!r}",
            "unset MCP_AUTH_ISSUER, or set the same one at the server",
        )


def _clock_variants(
    settings: Settings, key: SigningKey, clock_offset: float | None
) -> Iterator[_Variant]:
    if clock_offset is None:
        finding = "the server's clock is behind this host's: it takes an earlier-dated token"
        yield _Variant(settings, key, finding, _NTP, _CLOCK_STEP)
    elif clock_offset < -CLOCK_TOLERANCE:
        finding = f"the server's clock is {clock_words(clock_offset)} this host's"
        yield _Variant(settings, key, finding, _NTP, min(round(-clock_offset), _MAX_STEP))


def _far_ahead(settings: Settings, clock_offset: float) -> str:
    """Say why nothing can be tried on a server whose clock is far ahead.

    What it would accept is a token for a time to come, which others would accept when it comes.
    """
    words = f"the server's clock is {clock_words(clock_offset)} this host's"
    if clock_offset >= settings.ttl_seconds - clock_skew(settings) - CLOCK_TOLERANCE:
        return f"{words}: the token has expired there"
    if clock_offset >= 2 * _LIFETIME - CLOCK_TOLERANCE:
        return f"{words}: a minute's token, which would tell the cause, has expired there"
    return ""


def _or_a_clock(clock_offset: float | None) -> str:
    return ", or a clock that is ahead of this host's" if clock_offset is None else ""


def _audiences(settings: Settings, audiences: Sequence[str]) -> list[str]:
    candidates = dict.fromkeys([*audiences, _DEFAULTS.audience])
    return [audience for audience in candidates if audience != settings.audience]
