"""A token that something else makes: where it comes from, and whether it fits."""

from __future__ import annotations

import time
from typing import Final

from manor_mcp_interceptors._keys.given_token import GivenToken
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome

from .answers import Answer
from .checks import Check, Rows, State

NAME: Final = "token source"


def check_given(token: GivenToken) -> Check:
    """Report the source, the kind of the token, its `aud`, and whether it has expired.

    That it is for the audience of the calls was checked when it was read.
    """
    kind, left = _kind(token)
    details: Rows = [("source", token.source), ("kind", kind)]
    if token.audiences is not None:
        details = [*details, ("aud", ", ".join(token.audiences))]
    finding = f"{kind}, from {token.source}"
    if left is not None and left <= 0:
        fix = "find out why its source has not made a new one: the agent, the volume or the helper"
        return Check(NAME, State.FAILED, finding, fix, tuple(details))
    if token.warnings:
        finding = f"{finding}; {'; '.join(token.warnings)}"
        fix = "repair the source before the token expires"
        if token.audiences is None:
            fix = "name the file of a token; servers that verify with this library take JWTs only"
        return Check(NAME, State.WARNING, finding, fix, tuple(details))
    return Check(NAME, State.OK, finding, "", tuple(details))


def not_asked(source: str) -> Check:
    """Return the check of a source that no call has asked yet."""
    return Check(NAME, State.NOTE, f"{source} was not asked: the flag is off, or it has no answer")


def fix_of(problem: SettingsError) -> str:
    """Return what to do if there is no token, or not the right one."""
    if problem.outcome is Outcome.SOURCE_FAILED:
        return "repair the source; call it alone to see what it raises, or how long it takes"
    if " audience " in str(problem):
        return (
            "set MCP_AUTH_AUDIENCE to the audience of the token, or have the source make a token"
            " for this one"
        )
    return "have the source write one whole token and nothing else"


def explain_refusal_of(token: GivenToken, refusal: Answer) -> Check:
    """Return the check for a given token that a server refuses: no other one can be tried."""
    finding = f"{refusal.status}: the server refuses the token of {token.source}"
    fix = (
        "run `manor-mcp verify` on the server's host with this host's `manor-mcp token` as its"
        " input: it names the reason. Usual ones: MCP_AUTH_ISSUER is not the issuer of the token,"
        " MCP_AUTH_JWKS_FILE lacks its kid, allowed_subjects its sub, or it has no iat"
    )
    return Check("call with the token", State.FAILED, finding, fix)


def _kind(token: GivenToken) -> tuple[str, float | None]:
    """Return words for the kind of the token, and the seconds until its `exp`."""
    if token.expires_at is None:
        kind = "an opaque token" if token.audiences is None else "a JWT without exp"
        return f"{kind}, asked for at each recheck", None
    left = token.expires_at - time.time()
    when = f"expires in {left:.0f} s" if left > 0 else f"expired {-left:.0f} s ago"
    return f"a JWT that {when}", left
