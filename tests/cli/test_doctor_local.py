"""The doctor names the true cause where no token is made; no server is needed for that."""

from __future__ import annotations

import builtins
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from openfeature import api

from manor_mcp_interceptors import MCPTokenProvider
from manor_mcp_interceptors._cli.doctor.fingerprint import fingerprint
from manor_mcp_interceptors._decision import token_cache
from tests.cli.running import doctor, run
from tests.support import FLAG, OTHER_SECRET, SECRET
from tests.support.openfeature_provider import ToldProvider

ORDER = ["flag", "settings", "secret", "PyJWT", "token", "adapters"]


def test_all_is_well(env_on: None) -> None:
    """Each step of the decision is there, in its order, with what an operator asks for."""
    found = doctor()
    assert (found.exit_code, found.cause, list(found.checks)) == (0, None, ORDER)
    assert found.checks["flag"]["details"]["key"] == FLAG
    assert f"environment variable {FLAG.upper()}" in found.checks["flag"]["finding"]
    settings = found.checks["settings"]["details"]
    assert settings["MCP_AUTH_SECRET"] == "set, not shown"
    assert settings["MCP_AUTH_TTL_SECONDS"] == "3600 (default)"
    secret = {"source": "MCP_AUTH_SECRET", "bytes": "43", "fingerprint": fingerprint(SECRET)}
    assert found.checks["secret"]["details"] == secret
    claims = found.checks["token"]["details"]
    assert (claims["alg"], claims["iss"], claims["aud"]) == (
        "HS256",
        "manor-internal",
        "service-search-mcp",
    )
    assert claims["sub"] == "service-application"
    assert "UTC" in claims["exp"]
    assert "requests 2." in found.checks["adapters"]["details"]["RequestsAuth"]


def test_the_doctor_shows_no_secret_and_no_token(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In neither form, though both are set."""
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", OTHER_SECRET)
    token = MCPTokenProvider.get_token()
    assert token is not None
    for output in (doctor().text, run("doctor").output):
        assert SECRET not in output
        assert OTHER_SECRET not in output
        assert token not in output
        assert token.rpartition(".")[2] not in output


@pytest.mark.parametrize("value", ["off", "0"])
def test_flag_off_in_the_environment(
    env_on: None, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """The variable is named, and the fix is to set it."""
    monkeypatch.setenv(FLAG.upper(), value)
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "flag")
    assert f"{FLAG} is off" in found.finding
    assert found.fix == f"{FLAG.upper()}=on"


def test_flag_set_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where a flag could come from, and what it cannot see."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    found = doctor()
    assert found.cause == "flag"
    assert "is not set" in found.finding
    assert "--setup" in found.fix


def test_flag_garbled(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on nor off."""
    monkeypatch.setenv(FLAG.upper(), "enabled")
    found = doctor()
    assert found.cause == "flag"
    assert "'enabled' is not 1/true/yes/on" in found.finding


def test_flag_backend_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend and its error are named: the flag is not off, nobody knows."""

    def is_enabled(key: str) -> bool:
        raise ConnectionRefusedError("flags.internal:8013")

    feature_flags = types.ModuleType("manor.feature_flags")
    feature_flags.is_enabled = is_enabled  # type: ignore[attr-defined]
    manor = types.ModuleType("manor")
    manor.feature_flags = feature_flags  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "manor", manor)
    monkeypatch.setitem(sys.modules, "manor.feature_flags", feature_flags)
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    MCPTokenProvider.reset()
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "flag")
    assert "manor.feature_flags gave no answer (ConnectionRefusedError" in found.finding

    monkeypatch.setenv(FLAG.upper(), "on")  # which stands in
    MCPTokenProvider.reset()
    found = doctor()
    assert (found.exit_code, found.checks["flag"]["state"]) == (0, "warning")
    assert "ConnectionRefusedError" in found.checks["flag"]["finding"]


def test_openfeature_provider_down(
    env_on: None, monkeypatch: pytest.MonkeyPatch, isolated: None
) -> None:
    """Its own error is told; once it answers, its name."""
    told = ToldProvider()
    api.set_provider_and_wait(told)
    monkeypatch.setenv(FLAG.upper(), "off")
    MCPTokenProvider.reset()
    try:
        told.error = ConnectionError("flagd:8013 is gone")
        found = doctor()
        assert (found.exit_code, found.cause) == (1, "flag")
        assert "OpenFeature gave no answer" in found.finding
        assert "flagd:8013 is gone" in found.finding
        told.error = None
        MCPTokenProvider.reset()
        found = doctor()
        assert found.exit_code == 0
        assert "OpenFeature provider" in found.checks["flag"]["finding"]
    finally:
        api.shutdown()


def test_secret_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to set one are named."""
    monkeypatch.setenv(FLAG.upper(), "on")
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "secret")
    assert "no secret is set" in found.finding
    assert "manor-mcp keygen" in found.fix


def test_secret_file_unreadable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The path, the system's reason, and who could not read it."""
    file, real = tmp_path / "secret", builtins.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> Any:
        if path == str(file):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **kwargs)

    monkeypatch.setenv(FLAG.upper(), "on")
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(file))
    found = doctor()
    assert found.cause == "secret"
    assert f"{file} cannot be read: No such file" in found.finding

    file.write_text(SECRET)
    monkeypatch.setattr(builtins, "open", refuse)  # tests may run as root, who may read all
    MCPTokenProvider.reset()
    found = doctor()
    assert "cannot be read: Permission denied" in found.finding
    assert "uid" in found.fix


def test_secret_set_twice(env_on: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is wrong with either: one of them has to go."""
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(tmp_path / "secret"))
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "secret")
    assert "MCP_AUTH_SECRET and MCP_AUTH_SECRET_FILE are both set" in found.finding
    assert found.fix.startswith("unset MCP_AUTH_SECRET or MCP_AUTH_SECRET_FILE")
    assert "keygen" not in found.fix


def test_pyjwt_missing(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it into this very interpreter."""
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        names = args[2] if len(args) > 2 else ()
        if name.endswith("hs256") or "hs256" in (names or ()):
            raise ModuleNotFoundError("No module named 'jwt'", name="jwt")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "PyJWT")
    assert "ModuleNotFoundError" in found.finding
    assert found.fix == f"{sys.executable} -m pip install PyJWT"


def test_signing_fails(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything before was fine."""
    monkeypatch.setattr(token_cache, "mint", lambda *_: 1 / 0)
    found = doctor()
    assert found.cause == "token"
    assert "signing raised (ZeroDivisionError)" in found.finding


@pytest.mark.parametrize("secret", ["short", f" {SECRET}"], ids=["short", "blank"])
def test_a_poor_secret_is_a_warning(
    env_on: None, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    """It works, so the exit code is 0."""
    monkeypatch.setenv("MCP_AUTH_SECRET", secret)
    found = doctor()
    assert (found.exit_code, found.checks["secret"]["state"]) == (0, "warning")


def test_the_audience_may_be_chosen(env_on: None) -> None:
    """As where an adapter is made; a blank one is wrong usage."""
    assert doctor("--audience", "other-mcp").checks["token"]["details"]["aud"] == "other-mcp"
    assert run("doctor", "--audience", " ").exit_code == 2


def test_a_fingerprint_compares_secrets_and_shows_none() -> None:
    """The same on every host, different for different secrets, slow, and short."""
    assert fingerprint(SECRET) == fingerprint(SECRET) == "9de3-17ee"
    assert fingerprint(SECRET) != fingerprint(OTHER_SECRET)
