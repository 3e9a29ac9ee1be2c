"""Attacks on tokens that a private key signs, and on the file of public keys, by name."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from manor_mcp_interceptors import Settings, SettingsError, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors._telemetry.counters import MAX_DETAILS
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.server.verifier import Reason
from tests.server.forging import ALGORITHM_OF, b64, claims, forge, forge_with
from tests.support import OTHER_SECRET, SECRET, FakeClock
from tests.support.key_pairs import ALGORITHMS, KeyPair, key_pair, write_jwks

EC, RSA, ED = (key_pair(algorithm) for algorithm in ALGORITHMS)
PAIRS = (EC, RSA, ED)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_PRIME = 2**255 - 19
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

Make = Callable[..., TokenVerifier]


@pytest.fixture
def make(tmp_path: Path, clock: FakeClock) -> Make:
    """Return a function that makes a verifier with these keys in its file."""

    def made(*keys: object, **settings: Any) -> TokenVerifier:
        file = write_jwks(tmp_path / "callers.jwks", *keys)
        return TokenVerifier(Settings(jwks_file=file, **settings), clock=clock)

    return made


def result(verifier: TokenVerifier, token: str) -> Reason | None:
    """Return why the token is refused; None if it is accepted."""
    try:
        verifier.verify(token)
    except TokenRejectedError as error:
        return Reason(error.reason)
    return None


def results(verifier: TokenVerifier, tokens: dict[str, str]) -> dict[str, Reason | None]:
    return {name: result(verifier, token) for name, token in tokens.items()}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about the file since the last time."""
    found = [r.getMessage() for r in caplog.records if "callers.jwks" in r.getMessage()]
    caplog.clear()
    return found


def test_the_tokens_that_the_attacks_start_from_are_good(make: Make) -> None:
    """Otherwise the refusals would prove nothing."""
    verifier = make(*PAIRS, secret=SECRET)
    tokens = {pair.kid: forge_with(pair) for pair in PAIRS} | {"current": forge(claims())}
    assert set(results(verifier, tokens).values()) == {None}
    assert verifier.stats().by_key == dict.fromkeys(tokens, 1)


# Algorithm confusion


def texts_of(pair: KeyPair) -> Iterator[bytes]:
    """Return everything that an attacker could take the public key's bytes to be."""
    pem = pair.public(Encoding.PEM)
    yield from (pem, pem.rstrip(), pem.replace(b"\n", b"\r\n"), b"".join(pem.split(b"\n")[1:-2]))
    yield from (pair.public(Encoding.DER), pair.public(Encoding.DER)[-65:])
    for jwk in (pair.jwk(), {"keys": [pair.jwk()]}, pair.members):
        yield json.dumps(jwk).encode()
        yield json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()
    for name, text in pair.members.items():
        if name in ("x", "y", "n", "e"):
            yield from (text.encode(), base64.urlsafe_b64decode(text + "==="))
    yield from (b"", b"\0", b"None", pair.kid.encode(), repr(pair.private.public_key()).encode())


@pytest.mark.parametrize("pair", PAIRS, ids=ALGORITHMS)
def test_hs256_with_a_public_key_as_its_secret(make: Make, pair: KeyPair) -> None:
    """In each of its spellings, with its kid and without."""
    forged = {
        f"{text!r} {header}": forge(claims(), secret=text, header={"alg": "HS256", **header})
        for text in texts_of(pair)
        for header in ({"kid": pair.kid}, {})
    }
    assert set(results(make(pair), forged).values()) == {Reason.ALGORITHM}
    both = make(pair, secret=SECRET, previous_secret=OTHER_SECRET)
    assert set(results(both, forged).values()) == {Reason.SIGNATURE}


OTHER_ALGORITHMS = (
    *("none", "None", "HS384", "ES384", "ES512", "ES256K", "RS384", "RS512", "PS256"),
    *("Ed25519", "EDDSA", "es256", "", None, 1, ["ES256"], {"alg": "ES256"}, *ALGORITHMS),
)


def bare(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("pair", PAIRS, ids=ALGORITHMS)
def test_an_algorithm_that_is_not_the_keys_own(make: Make, pair: KeyPair) -> None:
    """RS256 over an EC key, none, and all others: the algorithm is the key's, not the token's."""
    own = ALGORITHM_OF[pair.members["kty"]]
    headers = [{"alg": alg, "kid": pair.kid} for alg in OTHER_ALGORITHMS if alg != own]
    forged = {
        **{f"{header} signed": forge_with(pair, header=header) for header in headers},
        **{f"{header} bare": forge_with(pair, header=header, change=bare) for header in headers},
    }
    for verifier in (make(*PAIRS), make(*PAIRS, secret=SECRET)):
        assert set(results(verifier, forged).values()) == {Reason.ALGORITHM}


def test_an_algorithm_that_no_key_in_use_has(make: Make) -> None:
    """A verifier of public keys takes no HS256, and one of EC keys no RS256, whatever the kid."""
    verifier = make(EC)
    assert result(verifier, forge(claims())) is Reason.ALGORITHM
    assert result(verifier, forge_with(RSA)) is Reason.ALGORITHM
    only_secret = TokenVerifier(Settings(secret=SECRET), clock=FakeClock())
    assert result(only_secret, forge_with(EC)) is Reason.ALGORITHM


# kid


def test_a_kid_that_is_not_the_keys_own(make: Make) -> None:
    """Only the named key is tried: a key that would verify it does not help."""
    other = key_pair("ES256", 2)
    verifier = make(EC, other, RSA, secret=SECRET)

    def named(**kid: object) -> str:
        return forge_with(EC, header={"alg": "ES256", **kid})

    assert results(
        verifier,
        {
            "none": named(),
            "of another key": named(kid=other.kid),
            "of another kind of key": named(kid=RSA.kid),
            "unknown": named(kid="unknown"),
            "empty": named(kid=""),
            "of a secret": named(kid="current"),
            "in upper case": named(kid=EC.kid.upper()),
            "with a space": named(kid=f"{EC.kid} "),
            "a path": named(kid="../callers.jwks"),
            "number": named(kid=1),
            "null": named(kid=None),
            "list": named(kid=[EC.kid]),
        },
    ) == {
        **dict.fromkeys(
            ("none", "unknown", "empty", "of a secret", "in upper case", "with a space", "a path"),
            Reason.UNKNOWN_KEY,
        ),
        "of another key": Reason.SIGNATURE,
        "of another kind of key": Reason.ALGORITHM,
        **dict.fromkeys(("number", "null", "list"), Reason.HEADER),
    }


@pytest.mark.slow
def test_ten_thousand_random_kids(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one read of a file, and neither memory nor the labels of metrics grow."""
    verifier, reads, stat = make(EC), [], os.stat
    _, _, tail = forge_with(EC).partition(".")

    def counting(path: Any, **more: Any) -> os.stat_result:
        reads.append(path)
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", counting)

    def storm(numbers: range) -> int:
        for number in numbers:
            header = b64(json.dumps({"alg": "ES256", "kid": f"{number:032x}"}).encode())
            assert result(verifier, f"{header}.{tail}") is Reason.UNKNOWN_KEY
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = storm(range(1_000))
        after = storm(range(1_000, 10_000))
    finally:
        tracemalloc.stop()
    assert reads == []
    assert after - before < 50_000
    assert verifier.rejections() == {"unknown_key": 10_000}
    assert verifier.stats().by_key == {}


def test_a_file_that_changes_all_the_time_makes_no_more_labels(
    make: Make, tmp_path: Path, clock: FakeClock
) -> None:
    """Each kid of a token that was accepted is counted, up to the limit."""
    verifier = make(EC)
    for number in range(MAX_DETAILS + 20):
        write_jwks(tmp_path / "callers.jwks", EC.jwk(kid=f"k{number}"))
        clock.advance(1.01)
        assert not result(verifier, forge_with(EC, header={"alg": "ES256", "kid": f"k{number}"}))
    labels = verifier.stats().by_key
    assert len(labels) <= MAX_DETAILS + 1
    assert labels["other"] >= 20


# Keys that are not used


def ed25519_with(y: int, sign: int = 0) -> dict[str, Any]:
    return ED.jwk(x=b64((y | sign << 255).to_bytes(32, "little")))


_Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
MODULUS = int.from_bytes(base64.urlsafe_b64decode(RSA.members["n"] + "==="), "big")
WEAK_OR_MALFORMED = {
    **{kind: key_pair(kind).jwk() for kind in ("P-384", "secp256k1", "RSA of 1024 bits")},
    **{kind: key_pair(kind).jwk() for kind in ("Ed448", "X25519")},
    "a point that is not on the curve": EC.jwk(x=EC.members["y"], y=EC.members["x"]),
    "the point of zeros": EC.jwk(x=b64(bytes(32)), y=b64(bytes(32))),
    "a coordinate above the prime": EC.jwk(x=b64(b"\xff" * 32)),
    "a coordinate of 31 bytes": EC.jwk(x=EC.members["x"][:-2]),
    "a coordinate of 33 bytes": EC.jwk(x=b64(b"\0" + bytes(32))),
    "no y": EC.jwk(y=...),
    "a curve that is a list": EC.jwk(crv=["P-256"]),
    "a P-256 point on secp256k1": EC.jwk(crv="secp256k1"),
    "Ed25519 of 31 bytes": ED.jwk(x=b64(bytes(31))),
    "Ed25519 of 33 bytes": ED.jwk(x=b64(bytes(33))),
    **{
        f"the Ed25519 point of low order {y:x}, {sign}": ed25519_with(y, sign)
        for y in (0, 1, ED25519_PRIME - 1, _Y8, ED25519_PRIME - _Y8)
        for sign in (0, 1)
    },
    **{
        f"a low order in another spelling, {more}": ed25519_with(ED25519_PRIME + more)
        for more in (0, 1)
    },
    "the exponent 1": RSA.jwk(e="AQ"),
    "an even exponent": RSA.jwk(e="Ag"),
    "an exponent of 33 bits": RSA.jwk(e=b64((2**32 + 1).to_bytes(5, "big"))),
    "an even modulus": RSA.jwk(n=b64((MODULUS - 1).to_bytes(256, "big"))),
    "a power of two": RSA.jwk(n=b64((2**2048).to_bytes(257, "big"))),
    "1024 bits after zeros": RSA.jwk(n=b64(bytes(128) + b"\xff" * 128)),
    "no modulus": RSA.jwk(n=...),
    "an empty modulus": RSA.jwk(n=""),
    "numbers for text": RSA.jwk(n=MODULUS, e=65537),
    "oct": {"kty": "oct", "kid": "s", "k": b64(SECRET.encode())},
    "oct without k": {"kty": "oct", "kid": "s"},
    "a private EC key": EC.private_jwk(),
    "a private RSA key": RSA.private_jwk(),
    "a private Ed25519 key": ED.private_jwk(),
    "a kty of tomorrow": {"kty": "AKP", "alg": "ML-DSA-44", "kid": "k", "pub": "AA"},
    "no kty": EC.jwk(kty=...),
    "no kid": EC.jwk(kid=...),
    "an empty kid": EC.jwk(kid=""),
    "a kid that is a number": EC.jwk(kid=1),
    "a long kid": EC.jwk(kid="k" * 257),
    "a kid that would end the line": EC.jwk(kid="k\nMCP auth ok"),
    "a kid that cannot be printed": EC.jwk(kid="\ud800"),
    "use enc": EC.jwk(use="enc"),
    "use null": EC.jwk(use=None),
    "another alg": EC.jwk(alg="ES384"),
    "alg HS256": EC.jwk(alg="HS256"),
    "alg none": RSA.jwk(alg="none"),
    "alg PS256": RSA.jwk(alg="PS256"),
    "key_ops to sign": EC.jwk(key_ops=["sign"]),
    "key_ops that are a text": EC.jwk(key_ops="verify"),
    "no subject": EC.jwk(sub=[]),
    "an empty subject": EC.jwk(sub=" "),
    "any subject": EC.jwk(sub="*"),
    "a part of a word": EC.jwk(sub=["service-a", "service-*"]),
    "a subject that is a number": EC.jwk(sub=1),
    "null for a subject": EC.jwk(sub=None),
    "a text": "key",
    "null": None,
    "a list": [EC.jwk()],
}


@pytest.mark.parametrize("name", WEAK_OR_MALFORMED)
def test_a_key_that_is_not_used(make: Make, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """One warning for it; the key beside it works, and alone it is no set of keys."""
    key, good = WEAK_OR_MALFORMED[name], key_pair("ES256", 2)
    kid = key.get("kid") if isinstance(key, dict) else None
    verifier = make(key, good)
    assert result(verifier, forge_with(good)) is None
    for pair in PAIRS:
        header = {"alg": ALGORITHM_OF[pair.members["kty"]], "kid": kid}
        assert result(verifier, forge_with(pair, header=header)) is not None
    (warning,) = warnings(caplog)
    assert "is not used: " in warning
    assert "\n" not in warning
    with pytest.raises(SettingsError, match="holds no usable key: ") as caught:
        make(key)
    assert caught.value.outcome is Outcome.INVALID_CONFIG


def test_the_point_of_low_order_is_a_real_attack(make: Make) -> None:
    """Of such a key anybody can make signatures, and the crypto library accepts them."""
    identity, signature = (1).to_bytes(32, "little"), (1).to_bytes(32, "little") + bytes(32)
    key = ed25519.Ed25519PublicKey.from_public_bytes(identity)
    key.verify(signature, b"anything")
    verifier = make(ED.jwk(x=b64(identity)), EC, key_pair("EdDSA", 2))
    assert result(verifier, forge_with(ED, change=lambda _: signature)) is Reason.UNKNOWN_KEY


def test_two_keys_of_one_kid(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Neither is used, also if both are the same: which one was meant cannot be known."""
    other = key_pair("ES256", 2)
    for twin in (EC.jwk(), other.jwk(kid=EC.kid), RSA.jwk(kid=EC.kid)):
        verifier = make(EC, twin, other)
        assert result(verifier, forge_with(EC)) is Reason.UNKNOWN_KEY
        assert result(verifier, forge_with(other)) is None
        assert [text for text in warnings(caplog) if "another key has the same kid" in text]


@pytest.mark.parametrize("pair", PAIRS, ids=ALGORITHMS)
def test_a_file_with_a_private_key_in_it(
    make: Make, caplog: pytest.LogCaptureFixture, pair: KeyPair
) -> None:
    """One warning says what leaked; it does not show it."""
    leaked = pair.private_jwk()
    make(leaked, key_pair("ES256", 2))
    (warning,) = warnings(caplog)
    assert f"the key {pair.kid!r} is not used: it holds a private key (d): replace that" in warning
    assert leaked["d"][:8] not in caplog.text
    make({**pair.jwk(), "kty": "oct", "k": b64(SECRET.encode())}, key_pair("ES256", 2))
    assert "it holds a shared secret (k)" in warnings(caplog)[0]


# Signatures


def es256_pair(signature: bytes) -> tuple[int, int]:
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


def es256(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def with_order_added(signature: bytes) -> bytes:
    s = int.from_bytes(signature[32:], "little") + ED25519_ORDER
    return signature[:32] + s.to_bytes(32, "little")


SIGNATURES: dict[str, tuple[KeyPair, Callable[[bytes], bytes]]] = {
    "ES256 in DER": (EC, lambda own: encode_dss_signature(*es256_pair(own))),
    "ES256 of 63 bytes": (EC, lambda own: own[1:]),
    "ES256 of 65 bytes": (EC, lambda own: own + b"\0"),
    "ES256 of 96 bytes": (EC, lambda own: bytes(16) + own[:32] + bytes(16) + own[32:]),
    "ES256, nothing": (EC, bare),
    "ES256, zeros": (EC, lambda _: bytes(64)),
    "ES256, r = 0": (EC, lambda own: es256(0, es256_pair(own)[1])),
    "ES256, s = 0": (EC, lambda own: es256(es256_pair(own)[0], 0)),
    "ES256, r = n": (EC, lambda own: es256(P256_ORDER, es256_pair(own)[1])),
    "ES256, s = n": (EC, lambda own: es256(es256_pair(own)[0], P256_ORDER)),
    "ES256, ones": (EC, lambda _: b"\xff" * 64),
    "ES256, r and s exchanged": (EC, lambda own: own[32:] + own[:32]),
    "RS256 and a zero": (RSA, lambda own: own + b"\0"),
    "RS256 after a zero": (RSA, lambda own: b"\0" + own),
    "RS256, cut": (RSA, lambda own: own[:-1]),
    "RS256, zeros": (RSA, lambda _: bytes(256)),
    "RS256, one": (RSA, lambda _: (1).to_bytes(256, "big")),
    "RS256, the modulus added": (
        RSA,
        lambda own: (int.from_bytes(own, "big") + MODULUS).to_bytes(257, "big"),
    ),
    "EdDSA, the order added to S": (ED, with_order_added),
    "EdDSA and a zero": (ED, lambda own: own + b"\0"),
    "EdDSA, zeros": (ED, lambda _: bytes(64)),
    "EdDSA, nothing": (ED, bare),
}


def test_signatures_that_are_none(make: Make) -> None:
    """In another form, of another length, or with numbers out of range."""
    forged = {name: forge_with(pair, change=to) for name, (pair, to) in SIGNATURES.items()}
    assert set(results(make(*PAIRS), forged).values()) == {Reason.SIGNATURE}


@pytest.mark.parametrize("pair", PAIRS, ids=ALGORITHMS)
def test_the_base64url_of_a_signature_has_one_spelling(make: Make, pair: KeyPair) -> None:
    """The unused bits of its last character are zero, and there is no padding."""
    token, verifier = forge_with(pair), make(pair)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    spellings = [token[:-1] + alphabet[last ^ bits] for bits in (1, 2, 3)]
    found = {result(verifier, each) for each in (*spellings, f"{token}=", f"{token}==")}
    assert found == {Reason.MALFORMED}


def test_a_signature_of_other_claims(make: Make) -> None:
    """No part of a good token can be combined with another."""
    verifier = make(*PAIRS)
    for pair in PAIRS:
        head, _, signature = forge_with(pair).split(".")
        payload = forge_with(pair, claims(sub="admin")).split(".")[1]
        assert result(verifier, f"{head}.{payload}.{signature}") is Reason.SIGNATURE


# What the header must not decide


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
def test_a_key_in_the_header_of_a_token(make: Make, tmp_path: Path, name: str) -> None:
    """A key that the token brings, or points to, is never looked at."""
    own = key_pair("ES256", 2)
    pointer = write_jwks(tmp_path / "attacker.jwks", own).as_uri()
    value = {"jwk": own.jwk(), "x5c": [b64(own.public(Encoding.DER))]}.get(name, pointer)
    verifier = make(EC)
    expected = {EC.kid: Reason.SIGNATURE, own.kid: Reason.UNKNOWN_KEY, "": Reason.UNKNOWN_KEY}
    for kid, reason in expected.items():
        header = {"alg": "ES256", "kid": kid, name: value}
        assert result(verifier, forge_with(own, header=header)) is reason
    assert result(verifier, forge_with(EC, header={"alg": "ES256", "kid": EC.kid, name: 1})) is None


@pytest.mark.parametrize("pair", PAIRS, ids=ALGORITHMS)
def test_critical_extensions_with_a_good_signature(make: Make, pair: KeyPair) -> None:
    """What must be understood and is not refuses the token."""
    good = {"alg": ALGORITHM_OF[pair.members["kty"]], "kid": pair.kid}
    critical: list[dict[str, Any]] = [{"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"]}]
    forged = {
        str(more): forge_with(pair, header={**good, **more, "b64": False}) for more in critical
    }
    assert set(results(make(pair), forged).values()) == {Reason.HEADER}


# A key speaks for its subject


@pytest.mark.parametrize(
    ("bound_to", "subject", "reason"),
    [
        ("service-a", "service-a", None),
        (["service-b", "service-a"], "service-a", None),
        ("service-a", "service-b", Reason.SUBJECT),
        ("service-a", "service-a ", Reason.SUBJECT),
        ("service-a", "Service-A", Reason.SUBJECT),
        ("service-a", "service-a\x00", Reason.SUBJECT),
        ("ns:shop:*", "ns:shop:orders", None),
        ("ns:shop:*", "ns:shop:", Reason.SUBJECT),
        ("ns:shop:*", "ns:shop", Reason.SUBJECT),
        ("ns:shop:*", "ns:shop2:orders", Reason.SUBJECT),
        ("ns:shop:*", "x ns:shop:orders", Reason.SUBJECT),
        ("spiffe://a/shop/*", "spiffe://a/shop/orders", None),
        ("spiffe://a/shop/*", "spiffe://a/shopping", Reason.SUBJECT),
    ],
)
def test_key_substitution_between_subjects(
    make: Make, bound_to: object, subject: str, reason: Reason | None
) -> None:
    """A key signs for the subjects that its entry names, exactly; also with a remembered token."""
    verifier = make(EC.jwk(sub=bound_to))
    token = forge_with(EC, claims(sub=subject))
    assert [result(verifier, token) for _ in range(2)] == [reason] * 2


def test_the_key_of_another_subject_does_not_help(make: Make) -> None:
    """Under its own kid it may not speak for the other, and under the other's kid it cannot."""
    other = key_pair("ES256", 2)
    verifier = make(EC.jwk(sub="service-a"), other.jwk(sub="service-b"))
    as_other = claims(sub="service-b")
    assert result(verifier, forge_with(EC, as_other)) is Reason.SUBJECT
    borrowed = {"alg": "ES256", "kid": other.kid}
    assert result(verifier, forge_with(EC, as_other, header=borrowed)) is Reason.SIGNATURE
    assert result(verifier, forge_with(other, as_other)) is None


# The file


DEEP = "[" * 20_000 + "]" * 20_000


DAMAGED = {
    "empty": "",
    "blank": " \n",
    "half-written": json.dumps({"keys": [EC.jwk(), RSA.jwk()]})[:-30],
    "no JSON": "-----BEGIN PUBLIC KEY-----",
    "after a BOM": "\ufeff" + json.dumps({"keys": [RSA.jwk()]}),
    "two documents": json.dumps({"keys": [RSA.jwk()]}) * 2,
    "a list": json.dumps([RSA.jwk()]),
    "one key": json.dumps(RSA.jwk()),
    "a text for keys": json.dumps({"keys": "RSA"}),
    "an object for keys": json.dumps({"keys": {"0": RSA.jwk()}}),
    "no keys": json.dumps({"keys": []}),
    "no key that is usable": json.dumps({"keys": [EC.jwk(use="enc"), EC.private_jwk()]}),
    "too large": json.dumps({"keys": [RSA.jwk()], "more": "x" * 70_000}),
    "too deep": json.dumps({"keys": [RSA.jwk(n="deep")]}).replace('"deep"', DEEP),
    "a number of 5,000 digits": json.dumps({"keys": [RSA.jwk()]})[:-1] + ',"x":' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_leaves_the_last_good_keys(
    make: Make, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """One warning however long it lasts, and a start with such a file accepts nothing."""
    verifier, file = make(EC), tmp_path / "callers.jwks"
    file.write_text(DAMAGED[name])
    for _ in range(3):
        clock.advance(1.01)
        assert result(verifier, forge_with(EC)) is None
        assert result(verifier, forge_with(RSA)) is Reason.ALGORITHM
    (warning,) = warnings(caplog)
    assert warning.endswith("; the last good one stays in use")
    assert EC.private_jwk()["d"][:8] not in warning
    with pytest.raises(SettingsError):
        TokenVerifier(Settings(jwks_file=file), clock=clock)


def test_a_name_that_occurs_twice_in_the_file(make: Make, tmp_path: Path, clock: FakeClock) -> None:
    """The last one counts, as RFC 7517 (section 4) allows: no key comes to a kid of its own."""
    verifier = make(EC)
    first, second = json.dumps(RSA.jwk()), json.dumps(EC.jwk(sub="service-b"))
    twice = f'{second[:-1]},"sub":"service-a"}}'
    (tmp_path / "callers.jwks").write_text(f'{{"keys":[{first}],"keys":[{twice}]}}')
    clock.advance(1.01)
    assert result(verifier, forge_with(RSA)) is Reason.ALGORITHM
    assert result(verifier, forge_with(EC)) is None
    assert result(verifier, forge_with(EC, claims(sub="service-b"))) is Reason.SUBJECT


def test_a_file_of_thousands_of_strange_keys(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The good one among them works, and the log stays short."""
    assert result(make(*range(10_000), EC), forge_with(EC)) is None
    shown = warnings(caplog)
    assert len(shown) == 17
    assert shown[-1].endswith("9984 more of its keys are not used")


CHANGES: dict[str, Callable[[], list[object]]] = {
    "removed": lambda: [RSA],
    "replaced under its kid": lambda: [key_pair("ES256", 2).jwk(kid=EC.kid)],
    "bound to another subject": lambda: [EC.jwk(sub="service-b")],
    "not for signatures any more": lambda: [EC.jwk(use="enc"), RSA],
    "there twice": lambda: [EC, EC, RSA],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_key_that_was_taken_back(make: Make, tmp_path: Path, clock: FakeClock, name: str) -> None:
    """Within the recheck interval its tokens are refused, those that are remembered as well."""
    verifier, token = make(EC, RSA), forge_with(EC)
    assert [result(verifier, token) for _ in range(2)] == [None, None]
    write_jwks(tmp_path / "callers.jwks", *CHANGES[name]())
    clock.advance(1.01)
    assert result(verifier, token) is not None
    write_jwks(tmp_path / "callers.jwks", EC)
    clock.advance(1.01)
    assert result(verifier, token) is None


# Secrets and public keys at once


RETIRING = forge(claims(), secret=OTHER_SECRET, header={"alg": "HS256", "kid": "k1"})
SIGNED = {"by the secret": forge(claims()), "by the retiring secret": RETIRING} | {
    f"with {ALGORITHM_OF[pair.members['kty']]}": forge_with(pair) for pair in PAIRS
}


@pytest.mark.parametrize(
    ("settings", "accepted"),
    [
        ({"secret": SECRET}, ["by the secret"]),
        ({"previous_secret": OTHER_SECRET}, ["by the retiring secret"]),
        (
            {"secret": SECRET, "key_id": "k2", "previous_secret": OTHER_SECRET},
            ["by the secret", "by the retiring secret"],
        ),
        ({}, []),
    ],
    ids=["with a secret", "with a retiring secret", "with both", "alone"],
)
def test_each_kind_of_key_is_accepted_by_its_own_rule(
    make: Make, settings: dict[str, str], accepted: list[str]
) -> None:
    """Public keys and secrets together, public keys alone, and beside a retiring secret alone."""
    found = results(make(*PAIRS, **settings), SIGNED)
    public = [f"with {algorithm}" for algorithm in ALGORITHMS]
    assert [name for name, reason in found.items() if reason is None] == [*accepted, *public]


def test_a_secret_whose_kid_is_that_of_a_public_key(make: Make) -> None:
    """The algorithm decides which kind is meant: neither opens for the other."""
    verifier = make(EC, secret=SECRET, key_id=EC.kid)
    header = {"alg": "HS256", "kid": EC.kid}
    assert result(verifier, forge(claims(), header=header)) is None
    assert result(verifier, forge_with(EC)) is None
    assert result(verifier, forge_with(EC, header=header)) is Reason.SIGNATURE
    assert result(verifier, forge(claims(), header={**header, "alg": "ES256"})) is Reason.SIGNATURE
