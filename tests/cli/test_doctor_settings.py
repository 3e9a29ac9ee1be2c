"""The doctor on settings, and on names that nothing reads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.running import doctor, run, words
from tests.support import SECRET


def test_lifetime_garbled(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wrong variable is named, not just the first; the rest is checked all the same."""
    monkeypatch.setenv("MCP_AUTH_TTL_SECONDS", "1h")
    monkeypatch.setenv("MCP_AUTH_MARGIN_SECONDS", "-3")
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "settings")
    assert "MCP_AUTH_TTL_SECONDS='1h' is not a whole number" in found.finding
    assert "MCP_AUTH_MARGIN_SECONDS='-3'" in found.finding
    assert found.checks["secret"]["state"] == "ok"


def test_settings_made_in_code_are_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """--setup runs the application's code first."""
    (tmp_path / "my_application.py").write_text(
        "from manor_mcp_interceptors import MCPTokenProvider, Settings\n"
        "class Gate:\n"
        "    def is_enabled(self, key, *, subject): return True\n"
        "def set_up():\n"
        f"    settings = Settings(secret={SECRET!r}, audience='other-mcp')\n"
        "    MCPTokenProvider.configure(settings=settings, gate=Gate())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    found = doctor("--setup", "my_application:set_up")
    assert found.exit_code == 0
    assert found.checks["flag"]["details"]["asked"] == "Gate"
    assert found.checks["token"]["details"]["aud"] == "other-mcp"
    assert found.checks["secret"]["details"]["source"] == "Settings.secret"


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("my_set_up", "'my_set_up' is not of the form MODULE:FUNCTION"),
        ("no_such_module:f", "no module named 'no_such_module' was found"),
        ("my_set_up:needs_another", "no module named 'no_such_library' was found"),
        ("my_set_up:no_such", "the module my_set_up has no function 'no_such'"),
        ("my_set_up:VALUE", "the module my_set_up has no function 'VALUE'"),
        ("my_set_up:fails", "my_set_up:fails failed: LookupError, caused by KeyError"),
    ],
)
def test_setup_that_cannot_be_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, problem: str
) -> None:
    """The name that was not found is in the message; the text of an error is not."""
    (tmp_path / "my_set_up.py").write_text(
        "VALUE = 1\ndef fails(): raise LookupError('hunter2') from KeyError('hunter2')\n"
        "def needs_another(): import no_such_library\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    result = run("doctor", "--setup", place)
    assert result.exit_code == 2
    assert problem in words(result.output)
    assert "hunter2" not in result.output


def test_the_service_s_name_is_no_default(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set, but by another name."""
    monkeypatch.setenv("SERVICE_NAME", "service-orders")
    shown = doctor().checks["settings"]["details"]["MCP_AUTH_SUBJECT"]
    assert shown == "service-orders (from SERVICE_NAME)"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("MCP_AUTH_TTL", "MCP_AUTH_TTL_SECONDS"),
        ("MCP_AUTH_AUDIANCE", "MCP_AUTH_AUDIENCE"),
        ("MCP_AUTH_SKEW", "MCP_AUTH_CLOCK_SKEW_SECONDS"),
        ("MCP_AUTH_SECRETS", "MCP_AUTH_SECRET"),
        ("mcp_auth_key_id", "MCP_AUTH_KEY_ID"),
    ],
)
def test_a_misspelt_variable(
    env_on: None, monkeypatch: pytest.MonkeyPatch, wrong: str, right: str
) -> None:
    """A warning with the name that was meant; the value, which may be a secret, is not shown."""
    monkeypatch.setenv(wrong, "hush")
    found = doctor()
    check = found.checks["environment"]
    assert (found.exit_code, check["state"]) == (0, "warning")
    assert check["finding"] == f"set, but nothing reads it: {wrong}"
    assert check["fix"] == f"rename {wrong} to {right}, or unset it"
    assert "hush" not in found.text


def test_an_unknown_variable_without_a_similar_name(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No guess; a second one is named as well."""
    monkeypatch.setenv("MCP_AUTH_ZZZ", "1")
    monkeypatch.setenv("MCP_AUTH_ISUER", "me")
    check = doctor().checks["environment"]
    assert check["finding"].endswith("MCP_AUTH_ISUER, MCP_AUTH_ZZZ")
    assert "rename MCP_AUTH_ISUER to MCP_AUTH_ISSUER" in check["fix"]
    assert "unset MCP_AUTH_ZZZ: no variable has a similar name" in check["fix"]


def test_the_flag_s_own_variable_may_be_called_so(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is the operator's choice."""
    monkeypatch.setenv("MCP_AUTH_FEATURE_FLAG", "mcp_auth_enabled")
    monkeypatch.setenv("MCP_AUTH_ENABLED", "on")
    found = doctor()
    assert found.exit_code == 0
    assert "environment" not in found.checks


def test_a_secret_in_the_place_of_a_path_is_not_shown(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as a setting nor in the cause, which names what the variable takes."""
    monkeypatch.delenv("MCP_AUTH_SECRET")
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", "hunter2")
    found = doctor()
    assert found.cause == "secret"
    assert "takes the path of a file, not what is in it, and no URL" in found.finding
    assert found.checks["settings"]["details"]["MCP_AUTH_SECRET_FILE"] == "<not shown>"
    assert "hunter2" not in found.text
