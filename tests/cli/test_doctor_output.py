"""What the doctor prints for people."""

from __future__ import annotations

import json

import pytest

from manor_mcp_interceptors import Settings
from manor_mcp_interceptors.provider import MCPTokenProvider
from tests.cli.running import run
from tests.support import SECRET


def test_for_people(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal: no colour, a line for each thing, the cause at the end."""
    monkeypatch.setenv("MCP_AUTH_TTL_SECONDS", "1h")
    result = run("doctor")
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    last, fix = result.stdout.rstrip().splitlines()[-2:]
    assert "The cause: settings." in last
    assert "MCP_AUTH_TTL_SECONDS='1h'" in last
    assert "set it in that form, or unset it for the default" in fix
    assert json.loads(run("doctor", "--json").stdout)["cause"] == "settings"


def test_warnings_are_summed_up_with_their_fixes(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls work, and somebody should look at it: the last lines say both."""
    monkeypatch.setenv("MCP_AUTH_TTL", "60")
    *_, carries, but, fix = run("doctor").stdout.rstrip().splitlines()
    assert "A call made now carries a token." in carries
    assert "But: environment." in but
    assert "MCP_AUTH_TTL_SECONDS" in fix


def test_defaults_and_adapters_are_for_the_curious(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is set is always shown; a machine is told everything."""
    monkeypatch.setenv("MCP_AUTH_KEY_ID", "2026-11")
    short, long = run("doctor").stdout, run("doctor", "--verbose").stdout
    for hidden in ("MCP_AUTH_ISSUER", "(default)", "RequestsAuth"):
        assert hidden not in short
        assert hidden in long
    assert "MCP_AUTH_KEY_ID" in short
    assert "2 of 14 set" in short
    checks = {
        check["name"]: check for check in json.loads(run("doctor", "--json").stdout)["checks"]
    }
    assert len(checks["settings"]["details"]) == 14
    assert "RequestsAuth" in checks["adapters"]["details"]
    assert "more" not in checks["adapters"]


def test_defaults_in_code_are_hidden_too(env_on: None, isolated: None) -> None:
    """A value that is the default was not chosen, as far as anybody can tell."""
    MCPTokenProvider.configure(settings=Settings(secret=SECRET, audience="other-mcp"))
    short, long = run("doctor").stdout, run("doctor", "--verbose").stdout
    assert "MCP_AUTH_AUDIENCE" in short
    assert "MCP_AUTH_ISSUER" not in short
    assert "MCP_AUTH_ISSUER" in long
