"""The verifier accepts what the client door mints, and nothing else."""

from __future__ import annotations

import pytest

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors.keys import SigningKey
from manor_mcp_interceptors.tokens import mint
from tests.support import SECRET, FakeClock


def minted(clock: FakeClock, settings: Settings) -> str:
    key = SigningKey(settings.secret or SECRET, settings.key_id, "test")
    return mint(settings, key, clock.time()).value


def test_a_minted_token_is_verified(settings: Settings, clock: FakeClock) -> None:
    """What one door mints, the other accepts, and tells who calls."""
    verifier = TokenVerifier(settings, clock=clock)
    caller = verifier.verify(minted(clock, settings))
    assert (caller.subject, caller.issuer, caller.audience) == (
        "service-application",
        "manor-internal",
        "service-search-mcp",
    )
    assert caller.expires_at - caller.issued_at == 3600


def test_an_expired_token_is_refused_by_the_second(settings: Settings, clock: FakeClock) -> None:
    """A remembered token is refused from the second of its exp on."""
    verifier = TokenVerifier(settings, clock=clock)
    token = minted(clock, settings)
    expires_at = verifier.verify(token).expires_at
    clock.wall = expires_at - 0.001
    verifier.verify(token)
    clock.wall = expires_at
    with pytest.raises(TokenRejectedError, match="expired"):
        verifier.verify(token)
