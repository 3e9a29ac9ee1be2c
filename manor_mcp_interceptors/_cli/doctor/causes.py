"""Find out why a server refuses the token, by the tokens that it accepts instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from manor_mcp_interceptors._keys.given_token import GivenToken
from manor_mcp_interceptors._keys.keys import SigningKey
from manor_mcp_interceptors._keys.shared_secret import SharedSecret
from manor_mcp_interceptors._keys.tokens import clock_skew, mint
from manor_mcp_interceptors.settings import Settings

from .answers import CLOCK_TOLERANCE, Answer, clock_words
from .checks import Check, State
from .host import Host
from .token_checks import explain_refusal_of

_DEFAULTS: Final = Settings()
_LIFETIME: Final = 60
"""Seconds for which a token that is tried is valid: the server may keep it."""
_CLOCK_STEP: Final = 600
"""Seconds to try if the server does not tell the time."""
_MAX_SUBJECTS: Final = 8
_MAX_STEP: Final = 31_536_000
_NTP: Final = "synchronise both clocks with NTP"
_NAME: Final = "call with the token"
_ADD_OR_RENAME: Final = (
    "set MCP_AUTH_SUBJECT to the subject that the key speaks for, or add the key there with"
    " `manor-mcp jwks FILE…`; "
)
_WANTS_SECRET: Final = {
    True: (
        "the server accepts only the previous secret; it does not have the current one",
        "give the server the current secret, or use the previous one here until then",
    ),
    False: (
        "the server accepts the shared secret, and does not have the public key of this host",
        "add the public key to the server's JWKS file, or sign with the secret here until then",
    ),
}
"""By whether this host signs with a secret: what it means that the server accepts another."""


@dataclass(frozen=True, slots=True)
class _Variant:
    """A token that differs in one thing, and what it means if the server accepts it."""

    settings: Settings
    key: SigningKey = field(repr=False)
    finding: str
    fix: str
    earlier: int = 0
    """Seconds by which it is dated earlier."""

    def token(self, longer: int) -> str:
        """Return it, dated like the refused one and valid for a minute and `longer` seconds."""
        back = clock_skew(self.settings)
        lifetime = min(self.settings.ttl_seconds, back + _LIFETIME + longer)
        dated = replace(self.settings, ttl_seconds=lifetime + self.earlier, clock_skew_seconds=0)
        return mint(dated, self.key, time.time() - back - self.earlier).value


def explain_refusal(
    host: Host,
    refusal: Answer,
    accepts: Callable[[str], bool],
    *,
    audiences: Sequence[str] = (),
) -> Check:
    """Return the check that names the cause of a refusal.

    Each possible cause is tried with a token that differs in one thing, unless the refused one
    was made elsewhere. The tokens are signed
    with secrets that this host has anyway, and go to a server that may not be trusted: each one
    expires within a minute or two, and none is dated in the future.

    Args:
        host: What the refused token was made from.
        refusal: The answer to it.
        accepts: Calls the server; returns whether it accepted the token.
        audiences: More audiences to try, beside the configured one and the default one.
    """
    key = host.credential()
    assert key is not None  # the call carried a token
    if isinstance(key, GivenToken):
        return explain_refusal_of(key, refusal)
    settings, status, offset = host.token_settings, refusal.status, refusal.clock_offset
    audiences = _other_audiences(host, audiences)
    if offset is not None and (ahead := _far_ahead(settings, offset)):
        return Check(_NAME, State.FAILED, f"{status}: {ahead}", _NTP)
    longer = min(max(0, round(offset or 0)), _LIFETIME)
    for variant in _variants(host, key, audiences, offset):
        if accepts(variant.token(longer)):
            return Check(_NAME, State.FAILED, f"{status}: {variant.finding}", variant.fix)
    return _unexplained(host, key, refusal, audiences)


def _unexplained(host: Host, key: SigningKey, refusal: Answer, audiences: Sequence[str]) -> Check:
    other = f"holds another secret than this host (fingerprint {key.fingerprint()})"
    if not isinstance(key, SharedSecret):
        other = (
            f"does not have the public key of this host (kid {key.fingerprint()}), or binds it to"
            f" another subject than {host.token_settings.subject!r}"
        )
    a_clock = "" if refusal.clock_offset is not None else ", or a clock ahead of this host's"
    finding = (
        f"{refusal.status}: the server {other},"
        f" or has no key, or bad settings{a_clock}, or expects an audience that is not among"
        f" {', '.join([host.token_settings.audience, *audiences])}"
    )
    add = "" if isinstance(key, SharedSecret) else _ADD_OR_RENAME
    fix = (
        f"{add}run `manor-mcp doctor --server` on the server's host and compare fingerprint or kid"
        " and audience, or `manor-mcp verify` there with this host's `manor-mcp token` as its input"
    )
    return Check(_NAME, State.FAILED, finding, fix)


def _variants(
    host: Host, key: SigningKey, audiences: Sequence[str], clock_offset: float | None
) -> Iterator[_Variant]:
    settings = host.token_settings
    yield from _clock_variants(settings, key, clock_offset)
    for other in _previous_secrets(host):
        yield _Variant(settings, other, *_WANTS_SECRET[isinstance(key, SharedSecret)])
    for subject in _bound_subjects(host, key):
        yield _Variant(
            replace(settings, subject=subject),
            key,
            f"the server's JWKS file binds this key to {subject!r}, not to {settings.subject!r}",
            f"MCP_AUTH_SUBJECT={subject}, or bind the key to {settings.subject!r} at the server",
        )
    if settings.key_id is not None and isinstance(key, SharedSecret):
        yield _Variant(
            settings,
            replace(key, key_id=None),
            f"the server does not know the key id {settings.key_id!r}",
            "set the same MCP_AUTH_KEY_ID at the server, or unset it here",
        )
    for audience in audiences:
        yield _Variant(
            replace(settings, audience=audience),
            key,
            f"the server expects the audience {audience!r}, not {settings.audience!r}",
            f"MCP_AUTH_AUDIENCE={audience}, or audience={audience!r} as the adapter's argument",
        )
    if settings.issuer != _DEFAULTS.issuer:
        yield _Variant(
            replace(settings, issuer=_DEFAULTS.issuer),
            key,
            f"the server expects the issuer {_DEFAULTS.issuer!r}, not {settings.issuer!r}",
            "unset MCP_AUTH_ISSUER, or set the same one at the server",
        )


def _previous_secrets(host: Host) -> tuple[SharedSecret, ...]:
    keys = host.accepted_keys()
    return () if keys is None else tuple(key for key in keys.secrets if key is not keys.current)


def _bound_subjects(host: Host, key: SigningKey) -> list[str]:
    """Return the other subjects that a JWKS file of this host binds `key` to, the exact ones."""
    keys = host.accepted_keys()
    public = {} if keys is None or keys.public is None else keys.public.keys
    known = public.get(key.key_id or "")
    if known is None or known.subjects is None or isinstance(key, SharedSecret):
        return []
    return sorted(known.subjects.exact - {host.settings.subject})[:_MAX_SUBJECTS]


def _clock_variants(
    settings: Settings, key: SigningKey, clock_offset: float | None
) -> Iterator[_Variant]:
    if clock_offset is None:
        finding = "the server's clock is behind this host's: it accepts an earlier-dated token"
        yield _Variant(settings, key, finding, _NTP, _CLOCK_STEP)
    elif clock_offset < -CLOCK_TOLERANCE:
        finding = f"the server's clock is {clock_words(clock_offset)} this host's"
        yield _Variant(settings, key, finding, _NTP, min(round(-clock_offset), _MAX_STEP))


def _far_ahead(settings: Settings, clock_offset: float) -> str:
    """Return why no token can be tried on a server whose clock is far ahead; empty if one can.

    Such a server accepts tokens dated in the future, which other servers would accept later.
    """
    words = f"the server's clock is {clock_words(clock_offset)} this host's"
    if clock_offset >= settings.ttl_seconds - clock_skew(settings) - CLOCK_TOLERANCE:
        return f"{words}: the token has expired there"
    if clock_offset >= 2 * _LIFETIME - CLOCK_TOLERANCE:
        return f"{words}: a token valid for a minute, which would show the cause, has expired there"
    return ""


def _other_audiences(host: Host, audiences: Sequence[str]) -> list[str]:
    candidates = dict.fromkeys([host.settings.audience, *audiences, _DEFAULTS.audience])
    return [audience for audience in candidates if audience != host.token_settings.audience]
