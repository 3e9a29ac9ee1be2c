"""``keygen`` with a key pair, and ``jwks``: real files, their modes, and what is refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from manor_mcp_interceptors import MCPTokenProvider, Settings, TokenRejectedError, TokenVerifier
from tests.cli.running import run, run_without, words
from tests.support import StaticGate

KINDS = {"--es256": "ES256", "--ed25519": "EdDSA", "--rsa": "RS256"}
PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "k")
SUBJECT = "service-application"


def keys_in(text: str) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = json.loads(text)["keys"]
    return keys


def token_by(file: Path, subject: str = SUBJECT) -> str:
    settings = Settings(private_key_file=file, subject=subject)
    token = MCPTokenProvider(settings, gate=StaticGate()).token()
    assert token is not None
    return token


def public_pem(file: Path) -> str:
    key = load_pem_private_key(file.read_bytes(), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return a private key and the JWKS file with its public half."""
    key, jwks = tmp_path / "orders.pem", tmp_path / "jwks.json"
    result = run("keygen", "--es256", "--output", str(key), "--jwks", str(jwks))
    assert result.exit_code == 0, result.output
    return key, jwks


@pytest.mark.parametrize("option", KINDS)
def test_what_keygen_writes_signs_and_verifies(option: str, tmp_path: Path) -> None:
    """From the command to a caller's token that a server accepts, with one kid on both sides."""
    key, jwks = tmp_path / "key.pem", tmp_path / "jwks.json"
    before = os.umask(0)
    try:
        result = run("keygen", option, "--output", str(key), "--jwks", str(jwks))
    finally:
        os.umask(before)
    assert (result.exit_code, result.stdout) == (0, "")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    token = token_by(key)
    [public] = keys_in(jwks.read_text())
    header = {"alg": KINDS[option], "kid": public["kid"], "typ": "JWT"}
    assert jwt.get_unverified_header(token) == header
    assert public["kid"] in result.stderr
    assert TokenVerifier(Settings(jwks_file=jwks)).verify(token).subject == SUBJECT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jwks.json", "key.pem"]


def test_a_private_key_on_standard_output_is_all_that_is_there(tmp_path: Path) -> None:
    """For a pipe; the kid goes to standard error."""
    result = run("keygen", "--es256", "--jwks", str(tmp_path / "jwks.json"))
    key = load_pem_private_key(result.stdout.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert "PRIVATE" not in result.stderr + (tmp_path / "jwks.json").read_text()


def test_a_second_key_is_added_to_the_first(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A rotation; what else is in the file stays, and so does its mode."""
    key, jwks = pair
    old = token_by(key)
    document = {**json.loads(jwks.read_text()), "spiffe_sequence": 7}
    document["keys"].append({"kty": "EC", "crv": "P-384", "kid": "of-another-kind"})
    jwks.write_text(json.dumps(document))
    jwks.chmod(0o640)
    run("keygen", "--es256", "--output", str(key), "--jwks", str(jwks), "--force")
    found = json.loads(jwks.read_text())
    assert found["keys"][:2] == document["keys"]
    assert (len(found["keys"]), found["spiffe_sequence"]) == (3, 7)
    assert stat.S_IMODE(jwks.stat().st_mode) == 0o640
    verifier = TokenVerifier(Settings(jwks_file=jwks))
    assert [verifier.verify(token).subject for token in (old, token_by(key))] == [SUBJECT] * 2


def test_a_reader_of_the_jwks_file_never_sees_half_of_it(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """The file is replaced, not rewritten; a symbolic link to it stays one."""
    _, jwks = pair
    link = tmp_path / "link.json"
    link.symlink_to(jwks.name)
    with jwks.open() as opened:
        assert run("keygen", "--es256", "--jwks", str(link)).exit_code == 0
        assert len(keys_in(opened.read())) == 1
    assert link.is_symlink()
    assert len(keys_in(jwks.read_text())) == 2


def test_a_key_is_bound_to_its_subjects(tmp_path: Path) -> None:
    """It signs for each of them, and a token for anybody else is refused."""
    key, jwks = tmp_path / "key.pem", tmp_path / "jwks.json"
    names = ["--sub", "orders", "--sub", "orders-batch"]
    run("keygen", "--es256", "--output", str(key), "--jwks", str(jwks), *names)
    verifier = TokenVerifier(Settings(jwks_file=jwks))
    for subject in ("orders", "orders-batch"):
        assert verifier.verify(token_by(key, subject)).subject == subject
    with pytest.raises(TokenRejectedError) as refused:
        verifier.verify(token_by(key, "billing"))
    assert refused.value.reason == "subject"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--es256", "--rsa"], "choose one of --es256, --ed25519 and --rsa"),
        (["--jwks", "jwks.json"], "a shared secret has no public half"),
        (["--es256", "--sub", "a"], "add --jwks FILE"),
        (["--es256", "--output", "a", "--jwks", "./a"], "need a file each"),
    ],
)
def test_options_that_contradict_each_other(
    arguments: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong usage, and no file."""
    monkeypatch.chdir(tmp_path)
    result = run("keygen", *arguments)
    assert result.exit_code == 2
    assert problem in words(result.output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["keygen", "--es256", "--jwks"], ["jwks"]])
def test_a_key_is_not_bound_to_nobody(
    command: list[str], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """A server would skip such a key: it is neither written nor printed."""
    file = tmp_path / "new.json" if "--jwks" in command else pair[0]
    result = run(*command, str(file), "--sub", " ")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the key cannot be bound to ''" in result.stderr
    assert not (tmp_path / "new.json").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"keys": [', "is not JSON"),
        ('{"kty": "EC"}', "is not a JWK set"),
        ('{"keys": [{"kty": "oct", "kid": "a", "k": "c2VjcmV0"}]}', "a: a shared secret (k)"),
    ],
)
def test_a_jwks_file_that_cannot_be_added_to_stays_as_it_is(
    text: str, problem: str, tmp_path: Path
) -> None:
    """And no private key is left behind whose public half is nowhere."""
    key, jwks = tmp_path / "key.pem", tmp_path / "jwks.json"
    jwks.write_text(text)
    result = run("keygen", "--es256", "--output", str(key), "--jwks", str(jwks))
    assert result.exit_code == 1
    assert f"{jwks} " in result.stderr
    assert problem in result.stderr
    assert jwks.read_text() == text
    assert not key.exists()


def test_jwks_merges_private_and_public_pem_and_jwks_files(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Each key once, whichever half it comes from; no private member in the output."""
    key, jwks = pair
    (tmp_path / "public.pem").write_text(public_pem(key))
    other = tmp_path / "other.pem"
    run("keygen", "--rsa", "--output", str(other))
    result = run("jwks", *map(str, (jwks, key, tmp_path / "public.pem", other)))
    assert (result.exit_code, result.stderr) == (0, "")
    found = keys_in(result.stdout)
    assert found[0] == keys_in(jwks.read_text())[0]
    assert [one["alg"] for one in found] == ["ES256", "RS256"]
    assert not [name for one in found for name in PRIVATE if name in one]
    merged = tmp_path / "merged.json"
    merged.write_text(result.stdout)
    assert TokenVerifier(Settings(jwks_file=merged)).verify(token_by(other)).subject == SUBJECT


def test_jwks_keeps_the_kid_and_the_subjects_of_a_jwks_file(pair: tuple[Path, Path]) -> None:
    """``--sub`` is for PEM files."""
    key, jwks = pair
    theirs = {**keys_in(jwks.read_text())[0], "kid": "theirs", "sub": ["a:*", "b"], "x5c": ["c"]}
    jwks.write_text(json.dumps({"keys": [theirs]}))
    result = run("jwks", str(jwks), str(key), "--sub", "orders")
    first, second = keys_in(result.stdout)
    assert first == {name: value for name, value in theirs.items() if name != "x5c"}
    assert second["sub"] == "orders"


def test_jwks_leaves_out_what_no_server_could_use(pair: tuple[Path, Path]) -> None:
    """With a line on standard error that names the file and the key."""
    _, jwks = pair
    good = keys_in(jwks.read_text())
    jwks.write_text(json.dumps({"keys": [*good, {"kty": "EC", "crv": "P-384", "kid": "wide"}]}))
    result = run("jwks", str(jwks))
    assert (result.exit_code, keys_in(result.stdout)) == (0, good)
    assert f"{jwks}: the key wide is left out: " in result.stderr


def test_jwks_refuses_one_kid_for_two_bindings(pair: tuple[Path, Path]) -> None:
    """Servers would use neither."""
    key, jwks = pair
    result = run("jwks", str(jwks), str(key), "--sub", "orders")
    assert (result.exit_code, result.stdout) == (1, "")
    kid = keys_in(jwks.read_text())[0]["kid"]
    assert f"{key}: the kid {kid} is in {jwks} too, with another key or sub" in result.stderr


def test_jwks_refuses_a_jwks_file_with_private_members(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """It names the file, the key and what leaked, and shows none of it."""
    key, jwks = pair
    loaded = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    private = jwt.algorithms.ECAlgorithm.to_jwk(loaded, as_dict=True)
    jwks.write_text(json.dumps({"keys": [{**private, "kid": "leaky"}]}))
    result = run("jwks", str(jwks))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{jwks} holds more than public keys: leaky: a private key (d)" in result.stderr
    assert private["d"] not in result.output


def test_a_jwks_file_that_cannot_be_written(tmp_path: Path) -> None:
    """It is known before the private key is written."""
    key, jwks = tmp_path / "key.pem", tmp_path / "none" / "jwks.json"
    result = run("keygen", "--es256", "--output", str(key), "--jwks", str(jwks))
    assert result.exit_code == 1
    assert f"{jwks} cannot be written" in words(result.stderr)
    assert not key.exists()


def encrypted(file: Path) -> str:
    key = load_pem_private_key(file.read_bytes(), None)
    how = BestAvailableEncryption(b"password")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


def p384(_: Path) -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_p384(_: Path) -> str:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda _: "ssh-ed25519 AAAA me", "as a PEM private key, a PEM public key, or members"),
        (lambda _: '{"keys": [', "is not JSON"),
        (lambda _: '{"keys": []}', "no key is left"),
        (lambda _: "-----BEGIN CERTIFICATE-----\n", "holds no key that can be used"),
        (encrypted, "holds an encrypted key; decrypt it first"),
        (p384, "holds a key of another kind"),
        (public_p384, "holds no key that can be used: P-256"),
        (lambda key: public_pem(key) * 2, "holds several keys; give each one a file"),
    ],
)
def test_jwks_names_the_file_that_it_cannot_use(
    make: Any, problem: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Exit code 1, nothing on standard output."""
    file = tmp_path / "file"
    file.write_text(make(pair[0]))
    result = run("jwks", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert problem in result.stderr


def test_jwks_that_binds_nothing_is_wrong_usage(pair: tuple[Path, Path]) -> None:
    """``--sub`` would be silently ignored."""
    _, jwks = pair
    result = run("jwks", str(jwks), "--sub", "orders")
    assert result.exit_code == 2
    assert "none is given" in words(result.output)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its name, and why."""
    result = run("jwks", str(tmp_path / "none.pem"))
    assert result.exit_code == 1
    assert f"{tmp_path / 'none.pem'} cannot be read: No such file or directory" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [["keygen", "--es256"], ["jwks", "public.pem"]])
def test_without_cryptography_the_extra_is_named(
    command: list[str], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """In one line, with exit code 2."""
    (tmp_path / "public.pem").write_text(public_pem(pair[0]))
    done = run_without("cryptography", *command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs cryptography: pip install 'manor-mcp-interceptors[crypto]'" in done.stderr
    assert done.stderr.count("\n") == 1
