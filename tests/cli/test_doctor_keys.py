"""The doctor on private and public keys: what they are, and what is wrong with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from manor_mcp_interceptors import Settings
from tests.cli.running import doctor, run_without
from tests.support import OTHER_SECRET, SECRET
from tests.support.auth_servers import GOOD, http_server
from tests.support.key_pairs import ALGORITHMS, KeyPair, key_pair, write_jwks

PRIVATE, PUBLIC = "private key", "public keys"
WITH = "call with the token"
SUBJECT = "service-application"


@pytest.fixture
def key(env_on: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyPair:
    """Return the key of a caller that holds no secret."""
    monkeypatch.delenv("MCP_AUTH_SECRET")
    monkeypatch.setenv("MCP_AUTH_PRIVATE_KEY_FILE", str(tmp_path / "key.pem"))
    return write_key(tmp_path, "ES256")


def write_key(folder: Path, algorithm: str) -> KeyPair:
    """Write a private key to the file of the fixture `key`."""
    pair = key_pair(algorithm)
    (folder / "key.pem").write_text(pair.pem())
    return pair


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_callers_key(key: KeyPair, algorithm: str, tmp_path: Path) -> None:
    """Where it came from, the algorithm and the kid: what a server's operator compares."""
    key = write_key(tmp_path, algorithm)
    found = doctor()
    assert (found.exit_code, found.cause) == (0, None)
    assert "secret" not in found.checks
    assert found.checks[PRIVATE]["details"] == {
        "source": f"MCP_AUTH_PRIVATE_KEY_FILE ({tmp_path / 'key.pem'})",
        "algorithm": algorithm,
        "kid": key.kid,
    }
    assert found.checks["token"]["details"]["alg"] == algorithm
    assert "BEGIN" not in found.text


def test_a_host_that_calls_and_serves(
    key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its own JWKS file has the key, and for the subject that it signs for."""
    jwks = write_jwks(tmp_path / "jwks.json", key)
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(jwks))

    def check() -> tuple[str, str, str]:
        found = doctor()
        assert found.exit_code == 0
        check = found.checks[PRIVATE]
        return check["state"], check["finding"], check["fix"]

    state, finding, _ = check()
    assert (state, finding.endswith("; the JWKS file here has it")) == ("ok", True)
    write_jwks(jwks, key.jwk(sub=["billing", "orders:*"]))
    state, finding, fix = check()
    assert state == "warning"
    assert finding.endswith(f"({jwks}) binds it to billing, orders:*, not to {SUBJECT!r}")
    assert "MCP_AUTH_SUBJECT" in fix
    write_jwks(jwks, key_pair("ES256", 2))
    state, finding, fix = check()
    assert state == "warning"
    assert finding.endswith(f"({jwks}) does not have it")
    assert "manor-mcp jwks" in fix


def test_a_server_shows_its_public_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its algorithm and subjects; one that is skipped, with the reason."""
    keys = [key_pair(name) for name in ALGORITHMS]
    bound = keys[1].jwk(sub=["b", "a"])
    shared = {"kty": "oct", "kid": "x", "k": "c2U"}
    jwks = write_jwks(tmp_path / "jwks.json", keys[0], bound, keys[2], shared)
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(jwks))
    found = doctor("--server")
    assert (found.exit_code, found.conclusion) == (0, "This host can verify tokens.")
    check = found.checks[PUBLIC]
    assert check["details"] == {
        keys[0].kid: "ES256 for any subject",
        keys[1].kid: "RS256 for a, b",
        keys[2].kid: "EdDSA for any subject",
    }
    assert check["state"] == "warning"
    assert "3 in use" in check["finding"]
    assert "the key 'x' is not used: it holds a shared secret (k)" in check["finding"]
    assert "one of the public keys verifies" in found.checks["verification"]["finding"]
    assert "secret" not in found.checks


def pem(curve: ec.EllipticCurve, encryption: KeySerializationEncryption) -> bytes:
    key = ec.generate_private_key(curve)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        (None, "cannot be read: No such file or directory", "mount the file there"),
        (b"", "is empty", "manor-mcp keygen --es256"),
        (b"-----BEGIN PRIVATE KEY-----\n", "does not hold a PEM private key", "keygen --es256"),
        (
            pem(ec.SECP256R1(), BestAvailableEncryption(b"password")),
            "holds an encrypted key; decrypt it first: openssl pkey",
            "nothing asks for a password",
        ),
        (pem(ec.SECP384R1(), NoEncryption()), "holds a key of another kind", "keygen --es256"),
    ],
    ids=["missing", "empty", "half", "encrypted", "P-384"],
)
def test_a_private_key_that_cannot_be_used(
    key: KeyPair, text: bytes | None, problem: str, fix: str, tmp_path: Path
) -> None:
    """It is the cause, and the fix is that of this fault."""
    (tmp_path / "key.pem").unlink()
    if text is not None:
        (tmp_path / "key.pem").write_bytes(text)
    found = doctor()
    assert (found.exit_code, found.cause) == (1, PRIVATE)
    assert problem in found.finding
    assert fix in found.fix


def test_a_jwks_file_that_cannot_be_used(
    key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server, and on a host that calls as well, whose own key is still shown."""
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(tmp_path / "jwks.json"))
    (tmp_path / "jwks.json").write_text('{"keys": []}')
    for arguments in (["--server"], []):
        found = doctor(*arguments)
        assert (found.exit_code, found.cause) == (1, PUBLIC)
        assert "holds no key" in found.finding
        assert "manor-mcp jwks" in found.fix
    assert found.checks[PRIVATE]["state"] == "ok"


def test_a_jwks_file_that_cannot_be_used_beside_a_secret(
    env_on: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens by the secret are accepted, but `TokenVerifier()` fails."""
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(tmp_path / "jwks.json"))
    (tmp_path / "jwks.json").write_text("{")
    found = doctor("--server")
    assert (found.exit_code, found.cause) == (1, "verification")
    assert "TokenVerifier() fails: MCP_AUTH_JWKS_FILE" in found.finding
    assert found.checks[PUBLIC]["state"] == "warning"
    assert "manor-mcp jwks" in found.checks[PUBLIC]["fix"]


def test_a_secret_beside_a_private_key(key: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are named, and where a secret belongs that others still sign with."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "secret")
    assert "MCP_AUTH_SECRET and MCP_AUTH_PRIVATE_KEY_FILE are both set" in found.finding
    assert "MCP_AUTH_PREVIOUS_SECRET" in found.fix


@pytest.mark.slow
def test_cryptography_is_missing(key: KeyPair, tmp_path: Path) -> None:
    """The command that installs it for this interpreter."""
    done = run_without("cryptography", "doctor", "--json")
    data = json.loads(done.stdout)
    assert (done.returncode, data["cause"]) == (1, PRIVATE), done.stderr
    [check] = [check for check in data["checks"] if check["name"] == PRIVATE]
    assert check["fix"] == f"{sys.executable} -m pip install 'manor-mcp-interceptors[crypto]'"


def test_the_server_does_not_have_the_key(key: KeyPair, tmp_path: Path) -> None:
    """The kid is there to compare."""
    jwks = write_jwks(tmp_path / "servers.json", key_pair("ES256", 2))
    with http_server(Settings(jwks_file=jwks)) as url:
        found = doctor("--url", url)
    assert (found.exit_code, found.cause) == (1, WITH)
    assert f"does not have the public key of this host (kid {key.kid})" in found.finding
    assert f"or binds it to another subject than {SUBJECT!r}" in found.finding
    assert "manor-mcp jwks" in found.fix
    assert "MCP_AUTH_SUBJECT" in found.fix


def test_the_server_binds_the_key_to_another_subject(
    key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named if a JWKS file here names it."""
    jwks = write_jwks(tmp_path / "jwks.json", key.jwk(sub=["billing", "orders"]))
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(jwks))
    servers = write_jwks(tmp_path / "servers.json", key.jwk(sub="orders"))
    with http_server(Settings(jwks_file=servers)) as url:
        found = doctor("--url", url)
    assert found.cause == WITH
    assert f"binds this key to 'orders', not to {SUBJECT!r}" in found.finding
    assert "MCP_AUTH_SUBJECT=orders" in found.fix


def test_the_server_still_takes_the_secret_only(
    key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This host has gone over to its key too early."""
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", SECRET)
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(write_jwks(tmp_path / "jwks.json", key)))
    with http_server(GOOD) as url:
        found = doctor("--url", url)
    assert "the server accepts the shared secret" in found.finding
    assert "JWKS file" in found.fix


def test_another_audience_with_a_private_key(
    key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens that are tried are signed with the key."""
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "wrong-mcp")
    with http_server(Settings(jwks_file=write_jwks(tmp_path / "jwks.json", key))) as url:
        found = doctor("--url", url)
    assert "expects the audience 'service-search-mcp', not 'wrong-mcp'" in found.finding


@pytest.mark.parametrize(
    ("variables", "state", "finding"),
    [
        ({}, "ok", "enforce: a call without a valid token is refused (MCP_AUTH_ENFORCEMENT"),
        (
            {"MCP_AUTH_ENFORCEMENT": "observe"},
            "warning",
            "observe: a call without a valid token is let through (MCP_AUTH_ENFORCEMENT=observe)",
        ),
        (
            {"MCP_AUTH_ENFORCEMENT": "observe", "MCP_AUTH_ENFORCEMENT_FLAG": "f", "F": "on"},
            "ok",
            "is refused (flag 'f' is on: environment variable F)",
        ),
        (
            {"MCP_AUTH_ENFORCEMENT_FLAG": "f", "F": "yess"},
            "warning",
            "F='yess'",
        ),
    ],
)
def test_the_enforcement_mode(
    variables: dict[str, str], state: str, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server: the mode, and what decides it."""
    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check = doctor("--server").checks["enforcement"]
    assert check["state"] == state
    assert finding in check["finding"]
    assert ("manor.mcp_auth.observed" in check["fix"]) is ("let through" in check["finding"])
    assert "enforcement" not in doctor().checks
