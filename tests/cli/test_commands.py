"""Every other command: what it prints, where to, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider
from manor_mcp_interceptors._cli.commands import EXIT_CODES
from tests.cli.running import run
from tests.support import FLAG, OTHER_SECRET, SECRET, legacy_check

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["doctor", "token", "headers", "inspect", "verify", "keygen", "demo"]


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS)])
def test_help_tells_the_exit_codes(command: list[str]) -> None:
    """For every command, and a success."""
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert " ".join(result.stdout.split()).find(EXIT_CODES) >= 0


@pytest.mark.parametrize("arguments", [[], ["dmeo"], ["demo", "more"], ["doctor", "--fast"]])
def test_what_is_not_understood_is_not_guessed_at(arguments: list[str]) -> None:
    """Usage, and exit code 2."""
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


@pytest.mark.parametrize("command", ["token", "headers"])
def test_no_token_is_one_line(command: str) -> None:
    """On the standard error, with the reason; the standard output stays empty."""
    result = run(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert f"flag {FLAG} is off" in result.stderr


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
def test_inspect_of_something_else(text: str) -> None:
    """One line, which does not repeat what may be a secret."""
    result = run("inspect", stdin=text)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "not a JWT" in result.stderr
    assert SECRET not in result.stderr


def test_inspect_drives_no_terminal() -> None:
    """Escape sequences in a stranger's claims are shown, not sent."""
    token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJcdTAwMWJbMkpcdTAwMDdpXG5pIiwiaWF0Ijoibm93In0."
    result = run("inspect", stdin=token)
    assert "\\x1b[2J\\x07i\\x0ai" in result.stdout
    assert "\x1b" not in result.stdout


def test_verify(env_on: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server with this environment would; a refusal is told with its reason."""
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


def test_keygen_where_nothing_can_be_written(tmp_path: Path) -> None:
    """One clear line."""
    result = run("keygen", "--output", str(tmp_path / "no" / "secret"))
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_the_extra(module: str) -> None:
    """The line that installs it, and exit code 2."""
    done = python(
        f"import sys; sys.modules[{module!r}] = None\n"
        "from manor_mcp_interceptors.__main__ import main\n"
        "sys.exit(main())"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"The command line needs {module}: pip install 'manor-mcp-interceptors[cli]'\n"
    )


def without(module: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in an interpreter that cannot import `module`."""
    return python(
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['manor-mcp', 'demo']\n"
        "from manor_mcp_interceptors.__main__ import main\n"
        "sys.exit(main())"
    )


@pytest.mark.parametrize(
    "module",
    ["requests", "httpx", "httpx2", "grpc", "google.protobuf", "fastapi", "mcp", "uvicorn"],
)
def test_a_missing_extra_gets_the_line_that_installs_it(module: str) -> None:
    """The demo names what is missing, and the one command that brings everything."""
    done = without(module)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"The demo needs {module}")
    assert done.stderr.endswith(": pip install 'manor-mcp-interceptors[all]'\n")
    assert done.stderr.count("\n") == 1


def test_a_fault_of_our_own_is_no_missing_extra() -> None:
    """A module of ours that cannot be found is shown as the fault it is."""
    done = without("manor_mcp_interceptors._cli.demo.report")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr


def test_the_library_s_log_does_not_mix_in() -> None:
    """What a command has to say it says once."""
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


def test_colour_is_for_terminals() -> None:
    """On a terminal there is some, and long lines are wrapped under their beginning."""
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "manor_mcp_interceptors", "doctor"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", "LC_ALL": "C.UTF-8"},
        stdout=terminal,
        stdin=subprocess.DEVNULL,
    ) as process:
        os.close(terminal)
        parts = []
        while part := _read(main):
            parts.append(part)
    os.close(main)
    output = b"".join(parts).decode()
    assert process.returncode == 1
    assert "\x1b[1;31m✗" in output
    assert "The cause: flag." in output


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side is closed
        return b""
