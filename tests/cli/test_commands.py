"""Every other command: its output, the stream it goes to, and its exit code."""

from __future__ import annotations

import inspect
import json
import os
import re
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jwt
import pytest

from manor_mcp_interceptors import MCPTokenProvider
from manor_mcp_interceptors._cli.commands import EXIT_CODES, app
from tests.cli.running import ROOT, run, run_without, words
from tests.support import FLAG, OTHER_SECRET, SECRET, legacy_check

COMMANDS = [
    *("doctor", "token", "headers", "inspect", "verify"),
    *("keygen", "jwks", "demo", "bridge", "edge", "serve-auth"),
]


def test_help_names_the_exit_codes_and_fits_80_columns() -> None:
    """For every command; a line of the help text is never broken a second time."""
    for command in [[], *([command] for command in COMMANDS)]:
        result = run(*command, "--help")
        assert result.exit_code == 0
        assert EXIT_CODES in words(result.stdout)
        lines = result.stdout.splitlines()
        assert max(map(len, lines)) <= 80
        for function in [
            app.registered_commands[COMMANDS.index(name)].callback for name in command
        ]:
            text = (inspect.getdoc(function) or "").splitlines()
            assert {line for line in text if line} <= {line.strip(" │") for line in lines}


def test_version() -> None:
    """The version of the distribution, in one line."""
    assert run("--version").stdout == f"manor-mcp {version('manor-mcp-interceptors')}\n"


@pytest.mark.parametrize("arguments", [[], ["dmeo"], ["demo", "more"], ["doctor", "--fast"]])
def test_unknown_arguments_are_wrong_usage(arguments: list[str]) -> None:
    """A usage message and exit code 2; nothing is guessed."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_token_and_headers(env_on: None) -> None:
    """Nothing but the token, and nothing but the header: for a pipe and for curl."""
    token = run("token").stdout.strip()
    assert legacy_check(token)["sub"] == "service-application"
    assert run("headers").stdout == f"Authorization: Bearer {token}\n"
    assert json.loads(run("headers", "--json").stdout) == {"Authorization": f"Bearer {token}"}
    assert legacy_check(run("token", "--audience", "a").stdout.strip(), audience="a")


@pytest.mark.prints_token("the headers are its output")
@pytest.mark.parametrize("on", [True, False])
def test_headers_as_a_headers_helper(on: bool) -> None:
    """Within 10 s: one JSON object of text on standard output, which stays empty without a token.

    Claude Code runs the command so, whatever the secret is like and whoever wants colour.
    """
    environ = {"MCP_AUTH_SECRET": "short", FLAG.upper(): str(on), "FORCE_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "manor_mcp_interceptors", "headers", "--json"],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    if not on:
        assert (done.returncode, done.stdout) == (1, "")
        return
    assert (done.returncode, done.stderr) == (0, "")
    (value,) = json.loads(done.stdout).values()
    assert value.startswith("Bearer ey")
    assert list(json.loads(done.stdout)) == ["Authorization"]


@pytest.mark.parametrize("command", ["token", "headers"])
def test_no_token_is_one_line(command: str) -> None:
    """On the standard error, with the reason; the standard output stays empty."""
    result = run(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert f"flag {FLAG} is off" in result.stderr


def read_claims(token: str) -> dict[str, Any]:
    """Return the claims of `token`, unverified."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


@pytest.mark.parametrize("form", ["{}", "{}\n", "Bearer {}", "Authorization: Bearer {}\n"])
def test_inspect(env_on: None, form: str) -> None:
    """From an argument or from standard input, bare or in its header; marked unverified."""
    token = MCPTokenProvider.get_token()
    assert token is not None
    text = form.format(token)
    for result in (
        run("inspect", text),
        run("inspect", "-", stdin=text),
        run("inspect", stdin=text),
    ):
        assert result.exit_code == 0
        assert "UNVERIFIED" in result.stderr
        assert "service-search-mcp" in result.stdout
    data = json.loads(run("inspect", "--json", stdin=text).stdout)
    assert (data["verified"], data["header"]["alg"]) == (False, "HS256")
    assert data["claims"]["aud"] == "service-search-mcp"


@pytest.mark.parametrize("text", ["x", "a.b", "a.b.c", f"{SECRET}.{SECRET}.x"], ids=list("1234"))
def test_inspect_of_text_that_is_no_token(text: str) -> None:
    """One line, which does not repeat what may be a secret."""
    result = run("inspect", stdin=text)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not a JWT" in result.stderr
    assert SECRET not in result.stderr


def test_verify(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server with this environment would; a refusal comes with its reason."""
    token = str(MCPTokenProvider.get_token())
    result = run("verify", stdin=token)
    assert (result.exit_code, result.stderr) == (0, "verified\n")
    assert "service-application" in result.stdout
    assert json.loads(run("verify", token, "--json").stdout)["verified"] is True

    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "other-mcp")
    result = run("verify", stdin=token)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "refused: audience\n")
    result = run("verify", "--json", stdin=token)
    assert (result.exit_code, json.loads(result.stdout)["reason"]) == (1, "audience")

    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    assert run("verify", stdin=token).stderr == "refused: signature\n"
    monkeypatch.delenv("MCP_AUTH_SECRET")
    result = run("verify", stdin=token)
    assert result.exit_code == 1
    assert "no secret is set" in result.stderr


def test_verify_prints_nested_claims(env_on: None) -> None:
    """Claims may be any JSON: the same JSON is printed, and a table shows it too."""
    nested = {"act": {"sub": "a", "roles": ["x", {"y": None}]}, "é": True}
    claims = {**read_claims(str(MCPTokenProvider.get_token())), **nested}
    token = jwt.encode(claims, SECRET, "HS256")
    assert json.loads(run("verify", "--json", stdin=token).stdout)["claims"] == claims
    shown = run("verify", stdin=token).stdout
    assert '{"sub": "a", "roles": ["x", {"y": null}]}' in shown
    assert re.search(r"é +true", shown)


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_no_token_on_standard_input_is_wrong_usage(command: str) -> None:
    """Exit code 2."""
    assert run(command, stdin="\n").exit_code == 2


def test_keygen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one each time, long enough, and fit for use."""
    one, two = run("keygen").stdout.strip(), run("keygen").stdout.strip()
    assert one != two
    assert len(one) == len(two) == 64
    monkeypatch.setenv("MCP_AUTH_SECRET", one)
    monkeypatch.setenv(FLAG.upper(), "on")
    assert legacy_check(str(MCPTokenProvider.get_token()), secret=one)


def test_keygen_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its owner alone, whatever the umask; an existing one is not replaced unasked."""
    file = tmp_path / "secret"
    before = os.umask(0)
    try:
        result = run("keygen", "--output", str(file))
    finally:
        os.umask(before)
    assert (result.exit_code, result.stdout) == (0, "")
    first = file.read_text()
    assert first.strip() not in result.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    result = run("keygen", "--output", str(file))
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert file.read_text() == first

    file.chmod(0o644)
    assert run("keygen", "--output", str(file), "--force").exit_code == 0
    assert file.read_text() != first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]

    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(file))
    monkeypatch.setenv(FLAG.upper(), "on")
    assert MCPTokenProvider.get_token()


def test_keygen_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """One clear line, and no file that may hold the secret."""
    result = run("keygen", "--output", str(tmp_path / "no" / "secret"))
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr

    (tmp_path / "secret").mkdir()
    result = run("keygen", "--output", str(tmp_path / "secret"), "--force")
    assert result.exit_code == 1
    assert "cannot be written: Is a directory" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_the_extra(module: str) -> None:
    """The line that installs it, and exit code 2."""
    done = run_without(module)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"The command line needs {module}: pip install 'manor-mcp-interceptors[cli]'\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "requests",
        "httpx",
        "httpx2",
        "aiohttp",
        "grpc",
        "google.protobuf",
        "fastapi",
        "mcp",
        "uvicorn",
    ],
)
def test_a_missing_extra_gets_the_line_that_installs_it(module: str) -> None:
    """The demo names what is missing, and the one command that brings everything."""
    done = run_without(module, "demo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The demo needs {module}")
    assert done.stderr.endswith(": pip install 'manor-mcp-interceptors[all]'\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_missing_module_of_the_package_is_no_missing_extra() -> None:
    """It is shown as the fault that it is."""
    done = run_without("manor_mcp_interceptors._cli.demo.report", "demo")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr


def test_log_lines_of_the_library_are_not_shown() -> None:
    """The command reports the reason itself, once."""
    done = subprocess.run(
        [sys.executable, "-m", "manor_mcp_interceptors", "token"],
        cwd=ROOT,
        env=os.environ | {FLAG.upper(): "on"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("no secret is set") == 1
    assert "MCP auth" not in done.stderr
