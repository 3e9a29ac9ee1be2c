"""Decide which token a call carries: flag, settings, key, token, in that order."""

from __future__ import annotations

from typing import Final

from manor_mcp_interceptors._bearer import METADATA_KEY, HiddenBearer
from manor_mcp_interceptors._flags.gates import FlagAnswer
from manor_mcp_interceptors._hosts import compile_hosts
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome, TokenStatus

from .configuration import CredentialOrProblem, SettingsSnapshot, is_credential
from .decision import Decision, without_token
from .token_cache import CachedToken, CacheResult, TokenCache

NOT_ASKED: Final = FlagAnswer(enabled=False, source="not asked yet")


def decide(
    snapshot: SettingsSnapshot,
    answer: FlagAnswer,
    credential: CredentialOrProblem,
    cache: TokenCache,
) -> Decision:
    """Return the decision; `valid_until` is the end of its token's freshness.

    Args:
        snapshot: The settings.
        answer: The flag's.
        credential: What the token comes from, or why there is none; read only if the flag is on.
        cache: Holds the token, and makes a new one.
    """
    if not answer.enabled:
        return refusal(snapshot, answer)
    assert credential is not None  # it is read if the flag is on
    if isinstance(credential, SettingsError):
        return without_token(credential.outcome, str(credential), answer)
    result = cache.renew(snapshot.settings, credential)
    if result.cached is None:
        return without_token(result.outcome, result.problem or "", answer)
    return _with_token(result.cached, result, snapshot, answer)


def _with_token(
    cached: CachedToken, result: CacheResult, snapshot: SettingsSnapshot, answer: FlagAnswer
) -> Decision:
    hosts = snapshot.settings.allowed_hosts
    reason = f"flag {snapshot.question.key} is on ({answer.source})"
    if result.problem is not None:
        reason = f"{reason}; {result.problem}"
    return Decision(
        cached.token,
        cached.authorization,
        (METADATA_KEY, HiddenBearer(cached.authorization)),
        Outcome.OK,
        reason,
        None if hosts is None else compile_hosts(hosts),
        result.problem,
        answer,
        valid_until=result.fresh_until,
    )


def refusal(snapshot: SettingsSnapshot, answer: FlagAnswer) -> Decision:
    """Return the decision if the flag is not on."""
    if answer.invalid:
        return without_token(Outcome.INVALID_CONFIG, answer.problem or "", answer)
    reason = f"flag {snapshot.question.key} is off ({answer.source})"
    return without_token(Outcome.FLAG_OFF, reason, answer)


def describe(
    snapshot: SettingsSnapshot,
    credential: CredentialOrProblem,
    decision: Decision,
    expires_in: float | None,
) -> TokenStatus:
    """Return `decision` and its inputs for an operator."""
    answer = decision.answer or NOT_ASKED
    settings = snapshot.settings if snapshot.error is None else None
    return TokenStatus(
        outcome=decision.outcome,
        reason=decision.reason,
        flag=snapshot.question.key,
        flag_enabled=answer.enabled,
        flag_source=answer.source,
        issuer=settings.issuer if settings else None,
        audience=settings.audience if settings else None,
        subject=settings.subject if settings else None,
        secret_source=credential.source if is_credential(credential) else None,
        seconds_to_expiry=expires_in,
    )
