"""Patterns of subjects: what each allows, and which are refused before they allow anything."""

from __future__ import annotations

import json

import pytest

from manor_mcp_interceptors import Settings, SettingsError, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors._keys.jwks import parse_jwks
from tests.server.forging import claims, forge
from tests.support import SECRET, FakeClock
from tests.support.issuers import cluster


def allows(allowed: list[str], subject: str) -> bool:
    verifier = TokenVerifier(Settings(secret=SECRET), allowed_subjects=allowed, clock=FakeClock())
    try:
        return verifier.verify(forge(claims(sub=subject))).subject == subject
    except TokenRejectedError as error:
        assert error.reason == "subject"
        return False


@pytest.mark.parametrize(
    ("allowed", "subject", "is_allowed"),
    [
        ("ns:a:*", "ns:a:b", True),
        ("ns:a:*", "ns:a:b:c", True),
        ("ns:a:*", "ns:a:", False),
        ("ns:a:*", "ns:a", False),
        ("ns:a:*", "ns:ab:c", False),
        ("ns:a:*", "NS:A:b", False),
        ("spiffe://d/shop/*", "spiffe://d/shop/basket", True),
        ("spiffe://d/shop/*", "spiffe://d/shopping/basket", False),
        (" exact ", "exact", True),
        ("exact", "exact:more", False),
    ],
)
def test_a_pattern_allows_what_continues_it(allowed: str, subject: str, is_allowed: bool) -> None:
    """All below the colon or slash, however deep; any other text allows itself alone."""
    assert allows([allowed], subject) is is_allowed


def test_the_variable_names_callers_unless_the_code_does(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes effect at the next recheck, as every variable; the argument of the code wins."""
    clock = FakeClock()
    verifier, in_code = TokenVerifier(clock=clock), TokenVerifier(allowed_subjects=["b"])
    token = forge(claims(sub="ns:b"))
    assert verifier.verify(token).subject == "ns:b"
    monkeypatch.setenv("MCP_AUTH_ALLOWED_SUBJECTS", "a, ns:*")
    clock.advance(1)
    assert verifier.verify(token).subject == "ns:b"
    monkeypatch.setenv("MCP_AUTH_ALLOWED_SUBJECTS", "a")
    clock.advance(1)
    for each in (verifier, in_code):
        with pytest.raises(TokenRejectedError):
            each.verify(token)
    monkeypatch.setenv("MCP_AUTH_ALLOWED_SUBJECTS", "a, b*")
    clock.advance(1)
    with pytest.raises(TokenRejectedError, match="invalid_config"):
        verifier.verify(token)


@pytest.mark.parametrize(
    "pattern", ["*", ":*", "/*", "shop*", "shop-*", "*:basket", "ns:*:basket", "ns:**", "a:*:*"]
)
def test_a_star_elsewhere_is_an_error(pattern: str) -> None:
    """It would be taken for a pattern that it is not; a key of a JWKS with it is not used."""
    with pytest.raises(SettingsError, match=r"allowed_subjects: .* is no pattern"):
        TokenVerifier(Settings(secret=SECRET), allowed_subjects=["good", pattern])
    bound, free = cluster().jwk(sub=pattern), cluster().jwk(kid="another")
    keys = parse_jwks(json.dumps({"keys": [bound, free]}), "FILE")
    assert list(keys.keys) == ["another"]
    (warning,) = keys.warnings
    assert "'the-key' is not used: its sub" in warning
