"""The private key in a file: in which forms it is read, and what is refused as one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa
from cryptography.hazmat.primitives.hashes import SHA256

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Settings,
    SettingsError,
    TokenVerifier,
    diagnose,
)
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.private_key import PrivateKey
from manor_mcp_interceptors._keys.public_key import public_jwk, thumbprint
from manor_mcp_interceptors.outcomes import Outcome
from tests.cli.running import doctor
from tests.support import SECRET, FakeClock, StaticGate
from tests.support.key_pairs import ALGORITHMS, KeyPair, key_pair, write_jwks

EC, RSA, ED = (key_pair(algorithm) for algorithm in ALGORITHMS)


def pem(private: Any, form: str = "PKCS8", password: bytes = b"") -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    format_ = getattr(serialization.PrivateFormat, form)
    found: bytes = private.private_bytes(serialization.Encoding.PEM, format_, encryption)
    return found.decode()


def encrypted(form: str) -> str:
    return pem(EC.private, form, b"a password")


def certificate(pair: KeyPair) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "service-a")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
    builder = x509.CertificateBuilder(name, name, pair.private.public_key(), 1, now, now)
    made = builder.sign(pair.private, SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def public(pair: KeyPair) -> str:
    return pair.public(serialization.Encoding.PEM).decode()


# What `openssl ecparam -genkey` writes before the key.
PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"

FORMS: dict[str, tuple[KeyPair, str]] = {
    "P-256 in PKCS #8": (EC, pem(EC.private)),
    "P-256 in SEC 1": (EC, pem(EC.private, "TraditionalOpenSSL")),
    "P-256 after its parameters": (EC, PARAMETERS + pem(EC.private, "TraditionalOpenSSL")),
    "RSA in PKCS #8": (RSA, pem(RSA.private)),
    "RSA in PKCS #1": (RSA, pem(RSA.private, "TraditionalOpenSSL")),
    "Ed25519 in PKCS #8": (ED, pem(ED.private)),
    "with the line ends of Windows": (EC, pem(EC.private).replace("\n", "\r\n")),
    "with its certificate": (EC, certificate(EC) + pem(EC.private)),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_a_private_key(tmp_path: Path, clock: FakeClock, name: str) -> None:
    """It signs, its `kid` is the thumbprint, and who has its public half accepts the token."""
    pair, text = FORMS[name]
    file = tmp_path / "key.pem"
    file.write_text(text, newline="")
    settings = Settings(private_key_file=file, jwks_file=write_jwks(tmp_path / "jwks", pair))
    token = str(MCPTokenProvider(settings, gate=StaticGate(), clock=clock).token())
    verifier = TokenVerifier(settings, clock=clock)
    assert verifier.verify(token).issuer == "manor-internal"
    assert verifier.stats().by_key == {pair.kid: 1}


OPENSSH = pem(ED.private, "OpenSSH")
ANOTHER_KIND = "holds a key of another kind; it takes a PEM private key: P-256 (ES256), RSA of 2048"
NONE = "does not hold a PEM private key: P-256 (ES256), RSA of 2048 bits or more (RS256) or Ed25519"

REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "encrypted": (lambda: encrypted("PKCS8"), "holds an encrypted key; decrypt it first: openssl"),
    "encrypted in SEC 1": (lambda: encrypted("TraditionalOpenSSL"), "holds an encrypted key; "),
    "two keys": (lambda: pem(EC.private) + pem(ED.private), "holds several private keys"),
    "a public key": (lambda: public(EC), NONE),
    "a certificate": (lambda: certificate(EC), NONE),
    "an ssh key": (lambda: OPENSSH, NONE),
    "half a key": (lambda: pem(EC.private)[:100], NONE),
    "a secret": (lambda: SECRET, NONE),
    "a JWK": (lambda: str(EC.private_jwk()), NONE),
    **{
        kind: (lambda kind=kind: key_pair(kind).pem(), ANOTHER_KIND)  # type: ignore[misc]
        for kind in ("P-384", "secp256k1", "RSA of 1024 bits", "Ed448", "X25519")
    },
    "DSA": (lambda: pem(dsa.generate_private_key(1024)), ANOTHER_KIND),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_private_key_for_tokens(tmp_path: Path, name: str) -> None:
    """The message has the file, what is wrong and what it takes, and nothing of the key."""
    make, problem = REFUSED[name]
    text, file = make(), tmp_path / "key.pem"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        KeySource().signing_key(Settings(private_key_file=file))
    assert str(caught.value).startswith(f"MCP_AUTH_PRIVATE_KEY_FILE: {file} {problem}")
    assert caught.value.outcome is Outcome.INVALID_CONFIG
    assert not [line for line in text.split() if len(line) > 20 and line in str(caught.value)]


def test_a_key_in_the_variable_of_its_path_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As PEM, as PEM in one line, and without its first and last line."""
    monkeypatch.setenv("MCP_AUTH_FEATURE_FLAG", "f")
    monkeypatch.setenv("F", "on")
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "0")
    text = pem(EC.private)
    lines = text.splitlines()[1:-1]
    for misplaced in (text, text.replace("\n", "\\n"), lines[0]):
        monkeypatch.setenv("MCP_AUTH_PRIVATE_KEY_FILE", misplaced)
        status = diagnose()
        assert status.outcome is Outcome.INVALID_CONFIG
        assert status.reason.startswith("MCP_AUTH_PRIVATE_KEY_FILE: <not shown> cannot be read: ")
        shown = f"{status!r} {Settings.from_env()!r} {caplog.text} {doctor().text}"
        assert not [line for line in lines if line in shown]


def test_a_key_is_loaded_once_per_change(tmp_path: Path) -> None:
    """Checking an RSA key takes milliseconds: not at each mint, nor at each recheck."""
    file, source = tmp_path / "key.pem", KeySource()
    settings = Settings(private_key_file=file)

    def loaded() -> object:
        key = source.signing_key(settings)
        assert isinstance(key, PrivateKey)
        return key.key

    file.write_text(pem(RSA.private))
    first = loaded()
    file.write_text(pem(RSA.private))
    assert loaded() is first
    file.write_text(pem(EC.private))
    assert loaded() is not first


@pytest.mark.parametrize(
    "content",
    ["", pem(EC.private)[:100], encrypted("PKCS8")],
    ids=["empty", "half", "encrypted"],
)
def test_a_damaged_file_leaves_the_last_good_key(tmp_path: Path, content: str) -> None:
    """With a warning, until the next good one is there."""
    file, source = tmp_path / "key.pem", KeySource()
    settings = Settings(private_key_file=file)
    file.write_text(pem(EC.private))
    before = source.signing_key(settings)
    file.write_text(content)
    damaged = source.signing_key(settings)
    assert damaged == before
    assert "the last good one stays in use" in damaged.warnings[0]
    file.write_text(pem(ED.private))
    assert (source.signing_key(settings).key_id, source.signing_key(settings).warnings) == (
        ED.kid, ()
    )  # fmt: skip


def test_a_new_key_signs_the_next_token_after_the_recheck_interval(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Without a restart, and also if the new one has another algorithm."""
    file, jwks = tmp_path / "key.pem", write_jwks(tmp_path / "jwks", EC, ED)
    file.write_text(pem(EC.private))
    settings = Settings(private_key_file=file)
    provider = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)
    verifier = TokenVerifier(Settings(jwks_file=jwks), clock=clock)
    for pair in (EC, ED, EC):
        file.write_text(pem(pair.private))
        clock.advance(1.01)
        before = verifier.stats().by_key.get(pair.kid, 0)
        verifier.verify(str(provider.token()))
        assert verifier.stats().by_key[pair.kid] == before + 1


# From RFC 7638, section 3.1, and RFC 8037, appendix A.3.
VECTORS = {
    "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": {
        "kty": "RSA",
        "n": (
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc"
            "_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ"
            "R0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bF"
            "TWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
        ),
        "e": "AQAB",
    },
    "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    },
}


@pytest.mark.parametrize("expected", VECTORS)
def test_the_thumbprint_of_the_standards_own_examples(tmp_path: Path, expected: str) -> None:
    """Read from a JWK set, as a verifier reads them."""
    file = write_jwks(tmp_path / "jwks", {**VECTORS[expected], "kid": "k"})
    keys = KeySource().verification_keys(Settings(jwks_file=file)).public
    assert keys is not None
    assert thumbprint(keys.keys["k"].key) == expected


@pytest.mark.parametrize("pair", [EC, RSA, ED], ids=ALGORITHMS)
def test_the_public_jwk_of_a_private_key(pair: KeyPair) -> None:
    """Its `kid` and numbers are those that were computed by hand, and nothing private is in it."""
    alg = {"EC": "ES256", "RSA": "RS256", "OKP": "EdDSA"}[pair.members["kty"]]
    assert public_jwk(pair.private.public_key()) == pair.jwk(alg=alg, use="sig")
