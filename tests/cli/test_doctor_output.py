"""What the doctor prints for people."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import jwt
import pytest

from manor_mcp_interceptors import Settings
from manor_mcp_interceptors.provider import MCPTokenProvider
from manor_mcp_interceptors.settings import VARIABLES
from tests.cli.running import run, run_on_terminal
from tests.support import AUDIENCE, SECRET
from tests.support.auth_servers import GOOD, http_server


def test_for_people(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal: no colour, no wrapped lines, the cause at the end."""
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
    """Calls work, but something should be changed: the last lines show both."""
    monkeypatch.setenv("MCP_AUTH_TTL", "60")
    *_, warning, fix, carries = run("doctor").stdout.rstrip().splitlines()
    assert "Warning: environment." in warning
    assert "MCP_AUTH_TTL_SECONDS" in fix
    assert "A call made now carries a token." in carries


def test_the_last_line_is_what_the_server_did(env_on: None) -> None:
    """That it accepted the token, also if it then could not serve the call."""
    with http_server(GOOD) as url:
        assert run("doctor", "--url", url).stdout.endswith("The server accepted the token.\n")
    with http_server(GOOD, forbids="Bearer") as url:
        assert run("doctor", "--url", url).stdout.endswith("The server accepted the token.\n")
    with http_server(None) as url:
        assert run("doctor", "--url", url).stdout.endswith("A call made now carries a token.\n")


def test_a_terminal_of_80_columns() -> None:
    """There is colour, and long lines are wrapped under their beginning."""
    code, output = run_on_terminal("doctor", "--verbose", MCP_AUTH_ISSUER="i" * 200)
    assert code == 1
    assert "\x1b[1;31m✗" in output
    assert "The cause: flag." in output
    lines = re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()
    assert max(map(len, lines)) <= 80


ESCAPE = "a\x1b]0;x\x07\x1b[2J\r\u202e\x9b"
"""What could set a terminal's title, clear it, overwrite a line or turn text around."""
SHOWN = r"a\x1b]0;x\x07\x1b[2J\r\u202e\x9b"


def claims_with_escapes(*command: str) -> str:
    now = int(time.time())
    claims = {"iss": "manor-internal", "aud": AUDIENCE, "sub": ESCAPE, "iat": now, "exp": now + 9}
    token = jwt.encode({**claims, ESCAPE: 1}, SECRET, "HS256", {"x": ESCAPE})
    return run(*command, stdin=token).output


def challenge_with_escapes(*command: str) -> str:
    with http_server(GOOD, forbids=ESCAPE.replace("\r", "").replace("\u202e", "")) as url:
        return run(*command, "--url", url).output


def setting_with_escapes(*command: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCP_AUTH_ISSUER", f"{ESCAPE}.")
        return run(*command, "--setup", f"{ESCAPE}:f").output + run(*command).output


@pytest.mark.parametrize(
    ("show", "command"),
    [
        (claims_with_escapes, "inspect"),
        (claims_with_escapes, "verify"),
        (claims_with_escapes, "inspect --json"),
        (claims_with_escapes, "verify --json"),
        (challenge_with_escapes, "doctor"),
        (setting_with_escapes, "doctor --verbose"),
    ],
)
def test_text_from_outside_controls_no_terminal(
    env_on: None, show: Callable[..., str], command: str
) -> None:
    """Names and values of claims, challenges, settings, arguments: all are printable."""
    output = show(*command.split())
    assert "0;x" in output
    assert [c for c in output if not c.isprintable() and c != "\n"] == []
    if show is not challenge_with_escapes and "--json" not in command:
        assert SHOWN in output


def test_defaults_and_adapters_are_shown_with_verbose(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is set is always shown; the JSON contains everything."""
    monkeypatch.setenv("MCP_AUTH_KEY_ID", "2026-11")
    short, long = run("doctor").stdout, run("doctor", "--verbose").stdout
    for hidden in ("MCP_AUTH_ISSUER", "(default)", "RequestsAuth"):
        assert hidden not in short
        assert hidden in long
    assert "MCP_AUTH_KEY_ID" in short
    assert f"2 of {len(VARIABLES)} set" in short
    checks = {
        check["name"]: check for check in json.loads(run("doctor", "--json").stdout)["checks"]
    }
    assert len(checks["settings"]["details"]) == len(VARIABLES)
    assert "RequestsAuth" in checks["adapters"]["details"]
    assert "more" not in checks["adapters"]


def test_defaults_in_code_are_hidden_too(env_on: None, isolated: None) -> None:
    """A value that equals the default is hidden."""
    MCPTokenProvider.configure(settings=Settings(secret=SECRET, audience="other-mcp"))
    short, long = run("doctor").stdout, run("doctor", "--verbose").stdout
    assert "MCP_AUTH_AUDIENCE" in short
    assert "MCP_AUTH_ISSUER" not in short
    assert "MCP_AUTH_ISSUER" in long
