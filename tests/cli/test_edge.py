"""``manor-mcp edge``: what it prints and writes. tests/edge runs the proxies themselves."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from manor_mcp_interceptors._cli.edge.configurations import NAMES
from manor_mcp_interceptors._keys.public_key import public_jwk
from tests.cli.running import run, words
from tests.support import OTHER_SECRET, SECRET

NATIVE = ("haproxy", "nginx", "envoy")
"""They verify tokens themselves."""


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a current and a previous secret."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", OTHER_SECRET)


@pytest.mark.usefixtures("secrets")
def test_no_configuration_holds_a_secret(tmp_path: Path) -> None:
    """Neither what is printed nor what is written, but for the one file that is Envoy's keys."""
    for name in NAMES:
        printed = run("edge", name)
        assert (printed.exit_code, printed.stderr) == (0, "")
        assert run("edge", name, "--output", str(tmp_path / name)).exit_code == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    keys = [path for path in files if stat.S_IMODE(path.stat().st_mode) == 0o600]
    assert [path.relative_to(tmp_path) for path in keys] == [Path("envoy/secrets.jwks.json")]
    texts = [path.read_text() for path in files if path not in keys]
    texts += [run("edge", name).output for name in NAMES]
    assert [text for text in texts if SECRET in text or OTHER_SECRET in text or "@@" in text] == []


def test_secret_files_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By their paths, in quotes; without them, the variables."""
    assert '"secret_file"' not in run("edge", "nginx").stdout
    assert "#   haproxy -W -f haproxy.cfg\n" in run("edge", "haproxy").stdout
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", "/run/my secret")
    assert '"secret_file": "/run/my secret"' in run("edge", "nginx").stdout
    start = """#   MCP_AUTH_SECRET="$(cat '/run/my secret')" haproxy -W -f haproxy.cfg\n"""
    assert start in run("edge", "haproxy").stdout


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("MCP_AUTH_AUDIENCE", NATIVE),
        ("MCP_AUTH_ISSUER", NATIVE),
        ("MCP_AUTH_SECRET_FILE", ["haproxy", "nginx"]),
        ("MCP_AUTH_PREVIOUS_SECRET_FILE", ["haproxy", "nginx"]),
    ],
)
def test_a_line_end_in_a_value_is_an_error(
    variable: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could begin a directive of its own; nothing is printed."""
    for value in ("a\nuser root", "a\u2028b", "a\x7fb"):
        monkeypatch.setenv(variable, value)
        for name in names:
            result = run("edge", name)
            assert (result.exit_code, result.stdout) == (1, "")
            assert f"{variable} holds a character that is not printable" in result.stderr


def test_a_key_id_with_a_line_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So is one that HAProxy could not compare."""
    jwk = public_jwk(generate_private_key(SECP256R1()).public_key())
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(tmp_path / "jwks.json"))
    for members, names in (
        ({"kid": "a\n# b"}, NATIVE),
        ({"sub": ["a\n# b"]}, NATIVE),
        ({"kid": "é"}, ["haproxy"]),
    ):
        (tmp_path / "jwks.json").write_text(json.dumps({"keys": [{**jwk, **members}]}))
        for name in names:
            result = run("edge", name)
            assert (result.exit_code, result.stdout) == (1, "")
            assert "MCP_AUTH_JWKS_FILE" in result.stderr


def test_a_flag_cannot_decide_for_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the configuration that asks a verifier, which asks the flag."""
    monkeypatch.setenv("MCP_AUTH_ENFORCEMENT_FLAG", "mcp_enforce")
    for name in NAMES:
        result = run("edge", name)
        assert result.exit_code == (1 if name in NATIVE else 0)
        assert (f"or use {name}-forward" in result.stderr) == (name in NATIVE)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "h:0", "h:65536", "a b:1", "h;user root:1", "h\n:1", "::1:80", ":80"]
)
@pytest.mark.parametrize("option", ["--upstream", "--grpc-listen"])
def test_an_address_is_a_host_and_a_port(option: str, address: str) -> None:
    """Anything else is wrong usage, and names the option."""
    result = run("edge", "nginx", option, address)
    assert (result.exit_code, result.stdout) == (2, "")
    assert option in result.output


def test_addresses_stand_in_the_configuration() -> None:
    """Each in its place, an IPv6 address in the form of the proxy."""
    options = ["--listen", "[::1]:1", "--upstream", "service.internal:2", "--auth", "h:3"]
    assert "listen [::1]:1;" in run("edge", "nginx", *options).stdout
    envoy = run("edge", "envoy-forward", *options).stdout
    assert 'socket_address: {"address": "::1", "port_value": 1}' in envoy
    assert "uri: http://h:3\n" in envoy
    assert run("edge", "nginx-forward", *options).stdout.count("service.internal:2") == 1


def test_a_name_that_is_none() -> None:
    """Wrong usage, with the names there are."""
    result = run("edge", "apache")
    assert result.exit_code == 2
    assert "haproxy-forward, nginx" in words(result.output)


def test_envoy_gets_no_short_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A short previous secret is left out; a short current one alone is an error."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", "short")
    assert run("edge", "envoy", "--output", str(tmp_path)).exit_code == 0
    assert len(json.loads((tmp_path / "secrets.jwks.json").read_text())["keys"]) == 1
    monkeypatch.setenv("MCP_AUTH_SECRET", "short")
    result = run("edge", "envoy", "--output", str(tmp_path))
    assert (result.exit_code, "shorter than 32 bytes" in result.stderr) == (1, True)


@pytest.mark.usefixtures("secrets")
def test_what_cannot_be_written_or_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in the folder's place; a proxy that is not installed."""
    (tmp_path / "file").write_text("")
    result = run("edge", "caddy", "--output", str(tmp_path / "file"))
    assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("edge", "caddy", "--check")
    assert result.exit_code == 1
    assert result.stderr == "not checked: caddy is not installed here, or not on the PATH\n"


def test_public_keys_are_written_as_each_proxy_takes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With their subjects, and without a shared secret; HAProxy has no EdDSA."""
    public = {
        "es": generate_private_key(SECP256R1()).public_key(),
        "ed": Ed25519PrivateKey.generate().public_key(),
    }
    members: list[dict[str, Any]] = [
        {**public_jwk(key), "kid": name} for name, key in public.items()
    ]
    members[0]["sub"] = ["service-a", "team:search:*"]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": members}))
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(tmp_path / "jwks.json"))
    for name in NATIVE:
        assert run("edge", name, "--output", str(tmp_path / name)).exit_code == 0
    haproxy = (tmp_path / "haproxy" / "haproxy.cfg").read_text()
    assert f'jwt_verify("ES256","{tmp_path}/haproxy/public-1.pem") 1' in haproxy
    assert 'acl subject_1 var(txn.subject) -m beg -- "team:search:"' in haproxy
    assert "cannot use the key ed: EdDSA" in haproxy
    assert "BEGIN PUBLIC KEY" in (tmp_path / "haproxy" / "public-1.pem").read_text()
    assert '"team:search:*"' in (tmp_path / "nginx" / "mcp_auth.js").read_text()
    envoy = tmp_path / "envoy"
    assert '["es"] = {"service-a", "team:search:*"}' in (envoy / "listeners.yaml").read_text()
    written = json.loads((envoy / "public.jwks.json").read_text())
    assert [key["kid"] for key in written["keys"]] == ["es", "ed"]
    assert not (envoy / "secrets.jwks.json").exists()


def test_haproxy_reads_no_key_from_a_strange_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error asks for another folder."""
    jwk = public_jwk(generate_private_key(SECP256R1()).public_key())
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    monkeypatch.setenv("MCP_AUTH_JWKS_FILE", str(tmp_path / "jwks.json"))
    result = run("edge", "haproxy", "--output", str(tmp_path / 'a"b'))
    assert (result.exit_code, "choose another --output" in result.stderr) == (1, True)


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(("status", "verdict"), [(0, "accepts it"), (1, "does not accept it")])
def test_what_the_proxy_says_of_it(
    status: int, verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its words, and the exit code; Envoy gets its listeners too, which it would read later."""
    proxy = tmp_path / "envoy"
    proxy.write_text(f'#!/bin/sh\necho "$@" | grep -c "  - name: grpc$"\nexit {status}\n')
    proxy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("MCP_AUTH_ENFORCEMENT", "observe")
    result = run("edge", "envoy", "--check")
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr == f"1\nenvoy {verdict}\n"
