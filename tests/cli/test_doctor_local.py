"""The doctor names the true cause if no token is made; no server is needed."""

from __future__ import annotations

import json
import os
import sys
import types
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import jwt
import pytest
from openfeature import api

from manor_mcp_interceptors import MCPTokenProvider, mcp_auth
from tests.cli.running import doctor, run, run_without
from tests.support import FLAG, OTHER_SECRET, SECRET
from tests.support.openfeature_provider import ToldProvider

FINGERPRINT = "9de3-17ee"
"""The one of SECRET, on every host."""
ORDER = ["flag", "settings", "secret", "rotation", "PyJWT", "token", "adapters"]


def test_all_is_well(env_on: None) -> None:
    """Each step of the decision is there, in its order, with what an operator asks for."""
    found = doctor()
    assert (found.exit_code, found.cause, list(found.checks)) == (0, None, ORDER)
    assert found.checks["flag"]["details"]["key"] == FLAG
    assert f"environment variable {FLAG.upper()}" in found.checks["flag"]["finding"]
    settings = found.checks["settings"]["details"]
    assert settings["MCP_AUTH_SECRET"] == "set, not shown"
    assert settings["MCP_AUTH_TTL_SECONDS"] == "3600 (default)"
    secret = {"source": "MCP_AUTH_SECRET", "bytes": "43", "fingerprint": FINGERPRINT}
    assert found.checks["secret"]["details"] == secret
    claims = found.checks["token"]["details"]
    assert (claims["alg"], claims["iss"], claims["aud"]) == (
        "HS256",
        "manor-internal",
        "service-search-mcp",
    )
    assert claims["sub"] == "service-application"
    assert "UTC" in claims["exp"]
    adapters = found.checks["adapters"]["details"]
    assert "requests 2." in adapters["RequestsAuth"]
    right = type(mcp_auth()).__name__
    assert adapters["mcp_auth()"].endswith(
        f" speaks {right.lower()[:-4]}: use mcp_auth() or {right}"
    )


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
    assert found.fix.startswith(f"{FLAG.upper()}=on. ")


def test_flag_set_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fix names the places where a flag can be set, and what the doctor cannot see."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    found = doctor()
    assert found.cause == "flag"
    assert "is not set" in found.finding
    assert "--setup" in found.fix


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("search-mcp-auth", "SEARCH_MCP_AUTH"),
        ("search.mcp auth é", "SEARCH_MCP_AUTH__"),
        (f"{FLAG} \r", FLAG.upper()),
    ],
)
def test_the_advised_variable_can_be_exported(
    monkeypatch: pytest.MonkeyPatch, key: str, variable: str
) -> None:
    """A shell takes letters, digits and underscores; nobody can type a CR."""
    monkeypatch.setenv("MCP_AUTH_FEATURE_FLAG", key)
    assert doctor().fix.startswith(f"{variable}=on in the environment")


def test_a_host_that_only_verifies_needs_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --server it is judged as a server, and without it the fix names it."""
    assert "--server" not in doctor().fix
    assert (doctor("--server").exit_code, doctor("--server").cause) == (1, "secret")
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    assert "`manor-mcp doctor --server`" in doctor().fix
    found = doctor("--server")
    assert (found.exit_code, found.conclusion) == (0, "This host can verify tokens.")
    assert found.checks["verification"]["details"]["audience"] == "service-search-mcp"
    assert "flag" not in found.checks
    monkeypatch.setenv("MCP_AUTH_TTL_SECONDS", "1h")
    assert (doctor("--server").exit_code, doctor("--server").cause) == (1, "settings")
    assert run("doctor", "--server", "--url", "http://a/mcp").exit_code == 2


def test_flag_garbled(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on nor off."""
    monkeypatch.setenv(FLAG.upper(), "enabled")
    found = doctor()
    assert found.cause == "flag"
    assert "'enabled' is not 1/true/yes/on" in found.finding


def test_flag_backend_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend and its error are named: whether the flag is on is unknown."""

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

    monkeypatch.setenv(FLAG.upper(), "on")  # until the backend answers
    MCPTokenProvider.reset()
    found = doctor()
    assert (found.exit_code, found.checks["flag"]["state"]) == (0, "warning")
    assert "ConnectionRefusedError" in found.checks["flag"]["finding"]


def test_openfeature_provider_down(
    env_on: None, monkeypatch: pytest.MonkeyPatch, isolated: None
) -> None:
    """Its error is reported; when it answers, its name."""
    monkeypatch.setattr("manor_mcp_interceptors._cli.doctor.library_log.WAIT", 0.01)
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


def test_a_broken_flag_file_of_flagd(
    env_on: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The reason is in flagd's log only, so the last error of that log is reported."""
    (tmp_path / "flags.json").write_text("{ broken")
    (tmp_path / "my_flags.py").write_text(
        "from contextlib import suppress\n"
        "from openfeature import api\n"
        "from openfeature.contrib.provider.flagd import FlagdProvider\n"
        "from openfeature.contrib.provider.flagd.config import ResolverType\n"
        "def set_up(path='flags.json', kind=ResolverType.FILE):\n"
        "    provider = FlagdProvider(resolver_type=kind, offline_flag_source_path=path)\n"
        "    with suppress(Exception):\n"
        "        api.set_provider_and_wait(provider)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    try:
        found = doctor("--setup", "my_flags:set_up").checks["flag"]["finding"]
    finally:
        api.shutdown()
    assert "OpenFeature gave no answer" in found
    assert "it logged: Could not parse JSON flag data from file: JSONDecodeError" in found


def test_secret_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to set one are named."""
    monkeypatch.setenv(FLAG.upper(), "on")
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "secret")
    assert "no secret is set" in found.finding
    assert "manor-mcp keygen" in found.fix


def test_secret_file_unreadable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The path, the system's reason, and the user who could not read it."""
    monkeypatch.setenv(FLAG.upper(), "on")
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(tmp_path / "secret"))
    found = doctor()
    assert found.cause == "secret"
    assert f"{tmp_path / 'secret'} cannot be read: No such file" in found.finding
    assert f"uid {os.getuid()}" in found.fix


def test_secret_file_is_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fix names the file inside it, and helps."""
    (tmp_path / "..data").mkdir()  # as Kubernetes mounts a secret
    (tmp_path / "mcp-auth").write_text(SECRET)
    monkeypatch.setenv(FLAG.upper(), "on")
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(tmp_path))
    found = doctor()
    assert found.cause == "secret"
    advice, _, path = found.fix.partition(": MCP_AUTH_SECRET_FILE=")
    assert advice == "name the file inside the directory"
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", path)
    MCPTokenProvider.reset()
    assert doctor().exit_code == 0
    (tmp_path / "other").write_text(SECRET)
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(tmp_path))
    MCPTokenProvider.reset()
    assert doctor().fix.endswith(f"MCP_AUTH_SECRET_FILE={tmp_path}/NAME")


def test_secret_set_twice(env_on: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is wrong with either: one of them must be unset."""
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(tmp_path / "secret"))
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "secret")
    assert "MCP_AUTH_SECRET and MCP_AUTH_SECRET_FILE are both set" in found.finding
    assert found.fix.startswith("unset one of them")
    assert "keygen" not in found.fix


def test_pyjwt_missing(env_on: None) -> None:
    """With the command that installs it for this interpreter."""
    done = run_without("jwt", "doctor", "--json")
    found = json.loads(done.stdout)
    checks = {check["name"]: check for check in found["checks"]}
    assert (done.returncode, found["cause"]) == (1, "PyJWT")
    assert "ModuleNotFoundError" in checks["PyJWT"]["finding"]
    assert checks["PyJWT"]["fix"] == f"{sys.executable} -m pip install PyJWT"


def test_signing_fails(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although everything before was fine."""
    monkeypatch.setattr(jwt.PyJWS, "encode", lambda *_, **__: 1 / 0)
    found = doctor()
    assert found.cause == "token"
    assert "signing raised (ZeroDivisionError)" in found.finding


@pytest.mark.parametrize(
    ("secret", "fix"),
    [("short", "`manor-mcp keygen` makes a good one"), (f" {SECRET}", "set the same text at")],
    ids=["short", "blank"],
)
def test_a_poor_secret_is_a_warning(
    env_on: None, monkeypatch: pytest.MonkeyPatch, secret: str, fix: str
) -> None:
    """It works, so the exit code is 0; the fix fits what is wrong with it."""
    monkeypatch.setenv("MCP_AUTH_SECRET", secret)
    found = doctor()
    assert (found.exit_code, found.checks["secret"]["state"]) == (0, "warning")
    assert found.checks["secret"]["fix"].startswith(fix)


def test_an_adapter_that_is_not_installed_is_named(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the line itself, without --verbose."""

    def version(name: str) -> str:
        if name == "openfeature-sdk":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("manor_mcp_interceptors._cli.doctor.local_checks.version", version)
    finding = doctor().checks["adapters"]["finding"]
    assert finding == "9 of 10 installed; not installed: OpenFeatureGate"


def test_the_audience_may_be_chosen(env_on: None) -> None:
    """As the argument of an adapter; a blank one is wrong usage."""
    assert doctor("--audience", "other-mcp").checks["token"]["details"]["aud"] == "other-mcp"
    assert run("doctor", "--audience", " ").exit_code == 2


def test_a_fingerprint_compares_secrets_without_showing_them(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on every host, different for different secrets, and short."""
    assert doctor().checks["secret"]["details"]["fingerprint"] == FINGERPRINT
    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    MCPTokenProvider.reset()
    assert doctor().checks["secret"]["details"]["fingerprint"] != FINGERPRINT
