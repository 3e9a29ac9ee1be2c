"""Any input at all: only a good token is accepted, everything else is a refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors.server.verifier import Reason, VerifiedToken, verification_of
from tests import fuzz_verifier
from tests.server.forging import claims, forge
from tests.support import AUDIENCE, SECRET, FakeClock

VERIFIER = TokenVerifier(Settings(secret=SECRET), clock=FakeClock())
NOW = int(FakeClock().time())

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
names = st.sampled_from(["iss", "aud", "sub", "iat", "exp", "nbf", "scope"])
changes = st.dictionaries(
    names,
    json_values
    | st.sampled_from([..., AUDIENCE, [AUDIENCE], ["x", AUDIENCE], "manor-internal", True])
    | st.integers(NOW - 100, NOW + 100)
    | st.floats(NOW - 100, NOW + 100),
)


def result(token: str) -> VerifiedToken | str:
    try:
        return VERIFIER.verify(token)
    except TokenRejectedError as error:
        return error.reason


def is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def is_time(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 2**53


def is_good(payload: dict[str, Any]) -> bool:
    """Apply the rules, written in another way."""
    audiences = payload.get("aud")
    audiences = audiences if isinstance(audiences, list) else [audiences]
    return (
        payload.get("iss") == "manor-internal"
        and AUDIENCE in audiences
        and all(map(is_text, audiences))
        and is_text(payload.get("sub"))
        and is_time(payload.get("exp"))
        and payload["exp"] // 1 > NOW
        and is_time(payload.get("iat"))
        and payload["iat"] // 1 <= NOW + 60
        and is_time(payload.get("nbf", 0))
        and payload.get("nbf", 0) // 1 <= NOW
    )


@pytest.mark.slow
@hypothesis_settings(max_examples=150, deadline=None)
@given(changes)
@example({"exp": NOW + 0.5})
@example({"exp": float("inf")})
@example({"iat": NOW + 60.5})
@example({"nbf": True})
def test_well_signed_claims_of_any_kind(change: dict[str, Any]) -> None:
    """Accepted if and only if the rules allow them."""
    payload = claims(NOW, **change)
    finite = "NaN" not in json.dumps(payload) and "Infinity" not in json.dumps(payload)
    found = result(forge(payload))
    assert isinstance(found, VerifiedToken) == (is_good(payload) and finite), found
    assert isinstance(found, VerifiedToken) or found in list(Reason)
    assert found != Reason.INTERNAL


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_at_all(text: str) -> None:
    """Refused, whole or as any part of a token."""
    head, payload, signature = forge(claims()).split(".")
    parts = (text, f"{text}.{payload}.{signature}", f"{head}.{text}.{signature}")
    for token in (*parts, f"{head}.{payload}.{text}"):
        found = result(token)
        assert found in list(Reason)
        assert found != Reason.INTERNAL


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.binary(max_size=200))
def test_any_bytes_well_signed(payload: bytes, header: bytes) -> None:
    """Bytes that hold no claims are refused, however well they are signed."""
    for token in (forge(payload), forge(payload, header=header.decode("latin-1"))):
        found = result(token)
        assert found in list(Reason)
        assert found != Reason.INTERNAL


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.lists(st.text() | st.text().map("Bearer {}".format), max_size=3))
def test_any_headers_at_all(values: list[str]) -> None:
    """No header value without a token is accepted."""
    assert verification_of(VERIFIER).check_authorization(values) in list(Reason)


def test_a_short_run_of_the_fuzzer() -> None:
    """The mutation fuzzer finds nothing; CONTRIBUTING names the command for a long run."""
    report = fuzz_verifier.run(4000, seed=20261123)
    assert report.failures == []
    assert report.inputs == 4000
    assert len(report.reasons) >= 6


def test_a_short_run_of_the_fuzzer_of_files() -> None:
    """Whatever is in the file of public keys, tokens are accepted or refused."""
    report = fuzz_verifier.run_files(300, seed=20261126)
    assert report.failures == []
    assert {"accepted", "unknown_key", "algorithm"} <= set(report.reasons)


def test_the_fuzzer_notices(monkeypatch: Any) -> None:
    """A verifier that accepts everything fails the run."""
    accepted = VERIFIER.verify(forge(claims()))
    monkeypatch.setattr(TokenVerifier, "verify", lambda self, token: accepted)
    report = fuzz_verifier.run(50, seed=1)
    assert report.failures
