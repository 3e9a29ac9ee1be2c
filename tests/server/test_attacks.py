"""Every known attack on a JWT, by name. Each is refused with the right reason."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from jwt import PyJWS

from manor_mcp_interceptors import Settings, SettingsError, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors.server.verifier import Reason
from tests.server.forging import NOW, b64, claims, forge
from tests.support import OTHER_SECRET, SECRET, FakeClock

GOOD = forge(claims())
SIGNED, _, SIGNATURE = GOOD.rpartition(".")
HEADER, _, PAYLOAD = SIGNED.partition(".")

PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf
9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==
-----END PUBLIC KEY-----"""
JWK = '{"kty":"oct","k":"bm90LWEtc2VjcmV0LW5vdC1hLXNlY3JldC0"}'


def result(token: Any, clock: FakeClock | None = None, **settings: Any) -> Reason | None:
    """Return why the token is refused; None if it is accepted."""
    verifier = TokenVerifier(Settings(secret=SECRET, **settings), clock=clock or FakeClock())
    try:
        verifier.verify(token)
    except TokenRejectedError as error:
        return Reason(error.reason)
    return None


def unsigned(alg: str) -> str:
    return f"{b64(json.dumps({'alg': alg, 'typ': 'JWT'}).encode())}.{PAYLOAD}."


def test_the_token_that_the_attacks_start_from_is_good() -> None:
    """Otherwise the refusals would prove nothing."""
    assert result(GOOD) is None


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS256"])
@pytest.mark.parametrize("signature", ["", SIGNATURE])
def test_another_algorithm(alg: str, signature: str) -> None:
    """Alg none in every spelling, and every other algorithm, with and without a signature."""
    assert result(unsigned(alg) + signature) is Reason.ALGORITHM


@pytest.mark.parametrize("alg", [None, 256, True, ["HS256"], {"alg": "HS256"}])
def test_an_algorithm_that_is_no_text(alg: object) -> None:
    """A header of odd types is refused even with a good signature."""
    assert result(forge(claims(), header={"alg": alg})) is Reason.ALGORITHM


def test_no_algorithm() -> None:
    """A header without alg is not a default."""
    assert result(forge(claims(), header={"typ": "JWT"})) is Reason.ALGORITHM


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
def test_a_stronger_hmac_with_the_right_secret(alg: str) -> None:
    """Signed with the right secret, but another algorithm."""
    signed = f"{b64(json.dumps({'alg': alg}).encode())}.{PAYLOAD}"
    digest = hmac.new(SECRET.encode(), signed.encode(), getattr(hashlib, f"sha{alg[2:]}")).digest()
    assert result(f"{signed}.{b64(digest)}") is Reason.ALGORITHM


@pytest.mark.parametrize("secret", [PUBLIC_KEY, JWK])
def test_rs256_with_secret_confusion(secret: str) -> None:
    """A public key is not a secret: anyone could sign HS256 with it. It is not accepted as one."""
    with pytest.raises(SettingsError, match="PEM, ssh or JWK"):
        TokenVerifier(Settings(secret=secret))
    with pytest.raises(SettingsError, match="PEM, ssh or JWK"):
        TokenVerifier(Settings(secret=SECRET, previous_secret=secret))


@pytest.mark.parametrize(
    "kid",
    ["../../../../dev/null", "x' UNION SELECT 'secret", "/etc/hostname", "k1\x00", "", "K1", "k1 "],
)
def test_kid_injection(kid: str) -> None:
    """A kid is only compared; it names no file, no row, no key of the sender."""
    header = {"alg": "HS256", "kid": kid}
    assert result(forge(claims(), header=header), key_id="k1") is Reason.UNKNOWN_KEY
    empty = forge(claims(), header=header, secret="")
    assert result(empty, previous_secret=OTHER_SECRET) is Reason.SIGNATURE


@pytest.mark.parametrize("kid", [1, None, True, ["k1"], {"k1": "k1"}])
def test_a_kid_that_is_no_text(kid: object) -> None:
    """Whether a kid is configured or not."""
    token = forge(claims(), header={"alg": "HS256", "kid": kid})
    assert result(token) is Reason.HEADER
    assert result(token, key_id="k1") is Reason.HEADER


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_in_the_header(name: str) -> None:
    """A key that the token contains, or points to, is never used."""
    own = "the-attackers-own-secret-0123456789"
    value: Any = "https://127.0.0.1:9/keys"
    if name == "jwk":
        value = {"kty": "oct", "k": b64(own.encode())}
    header = {"alg": "HS256", name: value}
    assert result(forge(claims(), header=header, secret=own)) is Reason.SIGNATURE
    assert result(forge(claims(), header=header)) is None


@pytest.mark.parametrize(
    ("crit", "more"),
    [
        (["exp"], {}),
        (["b64"], {"b64": True}),
        (["b64"], {"b64": False}),
        ([], {}),
        ("b64", {}),
        (None, {}),
    ],
)
def test_critical_extensions(crit: object, more: dict[str, object]) -> None:
    """An extension that must be understood and is not refuses a well-signed token."""
    token = forge(claims(), header={"alg": "HS256", "crit": crit, **more})
    assert result(token) in (Reason.HEADER, Reason.MALFORMED)


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "iat", "exp"])
def test_a_missing_claim(name: str) -> None:
    """Each of the five is required: a token without exp would never expire."""
    assert result(forge(claims(**{name: ...}))) is Reason.CLAIM_MISSING


TEXTS = ("1800000000", "1e9")
NOTHING: tuple[object, ...] = (None, True, False, {}, "", ["a", 1], {"$gt": 0})
NUMBERS = (10**400, -(10**400), 2**53 + 1, -(2**53) - 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("iss", "aud", "sub") for value in (*NOTHING, *NUMBERS)),
        *(
            (name, value)
            for name in ("iat", "exp", "nbf")
            for value in (*NOTHING, *NUMBERS, *TEXTS)
        ),
        ("iss", []),
        ("sub", ["service-a"]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_mistyped_claim(name: str, value: object) -> None:
    """A claim of the wrong type, or a number out of range, is not converted but refused."""
    assert result(forge(claims(**{name: value}))) is Reason.CLAIM_INVALID


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "other", "\ud800"])
def test_a_lone_surrogate_in_a_claim(name: str) -> None:
    """It is JSON, but printing or storing it later would fail."""
    assert result(forge(claims(**{name: "\ud800"}))) is Reason.MALFORMED
    assert result(forge(claims(other={"deep": ["\udfff"]}))) is Reason.MALFORMED


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000])
@pytest.mark.parametrize("name", ["exp", "iat", "nbf", "other"])
def test_numbers_that_are_not_finite_or_too_long(name: str, number: str) -> None:
    """Not finite, or with thousands of digits: refused in every claim."""
    text = json.dumps(claims(**{name: "@"})).replace('"@"', number)
    assert result(forge(text)) in (Reason.MALFORMED, Reason.CLAIM_INVALID)


@pytest.mark.parametrize(
    "twice",
    [
        '"exp":9999999999,', '"sub":"admin",', '"aud":"service-search-mcp",', '"x":1,"x":1,',
        '"e\\u0078p":9999999999,', '"nested":{"a":1,"a":2},',
    ],
)  # fmt: skip
def test_a_duplicate_claim(twice: str) -> None:
    """Parsers differ in which one they use."""
    assert result(forge("{" + twice + json.dumps(claims())[1:])) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("aud", "reason"),
    [
        (["service-search-mcp"], None),
        (["other-mcp", "service-search-mcp"], None),
        (["other-mcp"], Reason.AUDIENCE),
        ("other-mcp", Reason.AUDIENCE),
        ("service-search-mcp ", Reason.AUDIENCE),
        ("service-search-mcp,other-mcp", Reason.AUDIENCE),
        ("Service-Search-MCP", Reason.AUDIENCE),
        ("service-search", Reason.AUDIENCE),
        ([["service-search-mcp"]], Reason.CLAIM_INVALID),
        (["service-search-mcp", 1], Reason.CLAIM_INVALID),
        ({"service-search-mcp": 1}, Reason.CLAIM_INVALID),
        ([], Reason.AUDIENCE),
    ],
)
def test_audience_lists(aud: object, reason: Reason | None) -> None:
    """One of a list must be this service, exactly; not part of a word, a nested list or a key."""
    assert result(forge(claims(aud=aud))) is reason


def test_another_issuer() -> None:
    """Another issuer with the same secret is refused."""
    assert result(forge(claims(iss="manor-external"))) is Reason.ISSUER


def test_expired_by_one_second() -> None:
    """`exp` is exact: refused from that second on, accepted just before."""
    clock = FakeClock(wall=NOW)
    assert result(forge(claims(exp=NOW + 1)), clock) is None
    assert result(forge(claims(exp=NOW)), clock) is Reason.EXPIRED
    assert result(forge(claims(exp=NOW - 1)), clock) is Reason.EXPIRED
    assert result(forge(claims(exp=NOW + 0.9)), clock) is Reason.EXPIRED


def test_far_future_iat() -> None:
    """The clock of the sender may be a minute ahead, not more."""
    clock = FakeClock(wall=NOW)
    assert result(forge(claims(iat=NOW + 60)), clock) is None
    assert result(forge(claims(iat=NOW + 61)), clock) is Reason.NOT_YET_VALID


def test_not_before() -> None:
    """A token may state when it becomes valid."""
    clock = FakeClock(wall=NOW)
    assert result(forge(claims(nbf=NOW)), clock) is None
    assert result(forge(claims(nbf=NOW + 1)), clock) is Reason.NOT_YET_VALID


@pytest.mark.parametrize(
    "tail", ["A", "=", "==", ".", ".AAAA", " ", "\n", "\r\nX: y", "\x00", "AAAA", ",", "\u00a0"]
)
def test_trailing_garbage(tail: str) -> None:
    """Nothing may follow a token or precede it."""
    assert result(GOOD + tail) in (Reason.MALFORMED, Reason.SIGNATURE)
    assert result(tail + GOOD) in (Reason.MALFORMED, Reason.SIGNATURE)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize(
    "change", ["{}=", "{}==", "{}===", "={}", "{}\u200b", "{}+", "{}/", "{}\uff21", " {}"]
)
def test_padding_and_unicode_tricks(part: int, change: str) -> None:
    """One token has one spelling."""
    parts = GOOD.split(".")
    parts[part] = change.format(parts[part])
    assert result(".".join(parts)) is Reason.MALFORMED


@pytest.mark.parametrize("pyjwt_is_exact", [True, False])
def test_a_signature_has_one_spelling(
    pyjwt_is_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unused bits of its last character must be zero, also if PyJWT (2.13) ignores them."""
    if not pyjwt_is_exact:
        monkeypatch.setattr(PyJWS, "_load", _load_with_any_spelling)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    good = alphabet.index(GOOD[-1])
    spellings = [GOOD[:-1] + alphabet[good ^ bits] for bits in range(4)]
    assert [result(each) for each in spellings] == [None, *[Reason.MALFORMED] * 3]


def _load_with_any_spelling(_self: PyJWS, token: str) -> tuple[bytes, bytes, Any, bytes]:
    """Split a token as PyJWT 2.13 does: unused bits are ignored."""
    signed, _, signature = token.encode().rpartition(b".")
    header, _, payload = signed.partition(b".")
    parts = [base64.urlsafe_b64decode(part + b"===") for part in (header, payload, signature)]
    return parts[1], signed, json.loads(parts[0]), parts[2]


@pytest.mark.parametrize("token", ["", ".", "..", "...", "a.b", "a.b.c", "\ud800.a.b", "é.a.b"])
def test_text_that_is_not_a_token(token: str) -> None:
    """Refused, without an error."""
    assert result(token) is Reason.MALFORMED


@pytest.mark.parametrize("token", [None, 1, b"a.b.c", GOOD.encode(), ["a"], object()])
def test_a_value_that_is_not_text(token: object) -> None:
    """A programming error of the caller is a refusal too."""
    assert result(token) is Reason.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b'"text"', b"1", b"{", b"{}x", b"\xff\xfe{}", b"\xef\xbb\xbf{}",
     json.dumps(claims()).encode("utf-16"), b"{\xc3\x28}"],
)  # fmt: skip
def test_a_payload_that_is_not_one_json_object(payload: bytes) -> None:
    """Well signed, but refused."""
    assert result(forge(payload)) is Reason.MALFORMED


@pytest.mark.parametrize("header", ["", "null", "[]", "1", "{", '{"alg":"HS256"}x', "[" * 3000])
def test_a_header_that_is_not_one_json_object(header: str) -> None:
    """Well signed, but refused."""
    assert result(forge(claims(), header=header)) is Reason.MALFORMED


@pytest.mark.parametrize("deep", ["[" * 2900, '{"a":' * 1000, "[" * 1400 + "]" * 1400])
def test_deep_json(deep: str) -> None:
    """Deep nesting overflows no stack."""
    assert result(forge(deep)) is Reason.MALFORMED
    if deep.endswith("]"):
        inside = json.dumps(claims(deep="@")).replace('"@"', deep)
        assert result(forge(inside)) is Reason.MALFORMED


def test_an_oversized_token() -> None:
    """Over 8 KiB it is not read; up to 8 KiB it is accepted."""
    header = forge(claims(padding=""))
    fits = forge(claims(padding="x" * ((8192 - len(header)) * 3 // 4)))
    assert 8180 < len(fits) <= 8192
    assert result(fits) is None
    assert result(forge(claims(padding="x" * 6100))) is Reason.TOO_LARGE
    assert result("." * 100_000_000) is Reason.TOO_LARGE


def test_a_token_of_another_secret() -> None:
    """Well formed, but signed with another secret."""
    assert result(forge(claims(), secret=OTHER_SECRET)) is Reason.SIGNATURE
    assert result(forge(claims(), secret=SECRET + "x")) is Reason.SIGNATURE
    assert result(forge(claims(), secret=SECRET[:-1])) is Reason.SIGNATURE


def test_the_parts_of_two_good_tokens() -> None:
    """No part of a good token can be combined with another."""
    other = forge(claims(sub="admin"))
    head, payload, signature = GOOD.split(".")
    _, other_payload, other_signature = other.split(".")
    assert result(f"{head}.{other_payload}.{signature}") is Reason.SIGNATURE
    assert result(f"{head}.{payload}.{other_signature}") is Reason.SIGNATURE


def test_a_subject_that_may_not_call() -> None:
    """If subjects are listed, all others are refused; the list may come from a Windows file."""
    verifier = TokenVerifier(
        Settings(secret=SECRET), allowed_subjects=["service-b\r\n", " service-c"], clock=FakeClock()
    )
    assert verifier.verify(forge(claims(sub="service-b"))).subject == "service-b"
    with pytest.raises(TokenRejectedError, match="subject"):
        verifier.verify(GOOD)


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"none","alg":"HS256"}',
        '{"alg":"HS256","alg":"HS256"}',
        '{"alg":"HS256","kid":"old","kid":"new"}',
        '{"alg":"HS256","x":{"y":1,"y":2}}',
        '{"alg":"HS256","x":NaN}',
    ],
)
def test_a_header_that_parsers_read_differently(header: str) -> None:
    """Well signed; of two equal names a proxy may use the first, PyJWT the last."""
    assert result(forge(claims(), header=header)) is Reason.MALFORMED
