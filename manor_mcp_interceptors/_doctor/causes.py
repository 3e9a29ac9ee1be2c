"""Why does a server refuse the token? It does not say; what it accepts instead does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from manor_mcp_interceptors.keys import SigningKey, VerificationKeys
from manor_mcp_interceptors.settings import Settings
from manor_mcp_interceptors.tokens import mint

from .answers import CLOCK_TOLERANCE, clock_words
from .checks import Check, State
from .fingerprint import fingerprint

_DEFAULTS: Final = Settings()
_CLOCK_STEP: Final = 600
"""Seconds to try where the server does not tell its time."""
_NAME: Final = "call with the token"


@dataclass(frozen=True, slots=True)
class _Variant:
    """A token that differs in one thing, and what it means if the server accepts it."""

    settings: Settings
    key: SigningKey = field(repr=False)
    shift: float
    finding: str
    fix: str


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
    signed with secrets that this host has anyway and go to the server that is being asked.

    Args:
        status: The refusal, in the transport's words.
        settings: What the refused token was made with.
        keys: The current secret and the previous one.
        accepts: Calls the server; returns whether it took the token.
        audiences: More audiences to try.
        clock_offset: Seconds by which the server's clock is ahead, where known.
    """
    for variant in _variants(settings, keys, audiences, clock_offset):
        token = mint(variant.settings, variant.key, time.time() + variant.shift)
        if accepts(token.value):
            return Check(_NAME, State.FAILED, f"{status}: {variant.finding}", variant.fix)
    mark = fingerprint(keys.current.secret)
    tried = ", ".join(_audiences(settings, audiences))
    finding = (
        f"{status}: the server holds another secret than this host (fingerprint {mark}),"
        " or has no secret, or bad settings,"
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
            0.0,
            "the server accepts the previous secret alone; it does not have the current one",
            "give the server the current secret, or go back to the previous one here until then",
        )
    if settings.key_id is not None:
        yield _Variant(
            settings,
            replace(key, key_id=None),
            0.0,
            f"the server does not know the key id {settings.key_id!r}",
            "set the same MCP_AUTH_KEY_ID at the server, or unset it here",
        )
    for audience in _audiences(settings, audiences):
        yield _Variant(
            replace(settings, audience=audience),
            key,
            0.0,
            f"the server expects the audience {audience!r}, not {settings.audience!r}",
            f"MCP_AUTH_AUDIENCE={audience}, or audience={audience!r} where the adapter is made",
        )
    if settings.issuer != _DEFAULTS.issuer:
        yield _Variant(
            replace(settings, issuer=_DEFAULTS.issuer),
            key,
            0.0,
            f"the server expects the issuer {_DEFAULTS.issuer!r}, not {settings.issuer!r}",
            "unset MCP_AUTH_ISSUER, or set the same one at the server",
        )


def _clock_variants(
    settings: Settings, key: SigningKey, clock_offset: float | None
) -> Iterator[_Variant]:
    fix = "synchronise both clocks with NTP"
    if clock_offset is not None:
        if abs(clock_offset) > CLOCK_TOLERANCE:
            finding = f"the server's clock is {clock_words(clock_offset)} this host's"
            yield _Variant(settings, key, clock_offset, finding, fix)
        return
    # It expires when the refused one does: the moment of minting alone is another.
    lasting = replace(settings, ttl_seconds=settings.ttl_seconds + _CLOCK_STEP)
    behind = "the server's clock is behind this host's: it takes an earlier-dated token"
    yield _Variant(lasting, key, -_CLOCK_STEP, behind, fix)
    ahead = "the server's clock is ahead of this host's: it takes a later-dated token"
    yield _Variant(settings, key, settings.ttl_seconds, ahead, fix)


def _audiences(settings: Settings, audiences: Sequence[str]) -> list[str]:
    candidates = dict.fromkeys([*audiences, _DEFAULTS.audience])
    return [audience for audience in candidates if audience != settings.audience]
