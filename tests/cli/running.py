"""Run the command line: in this process, on a terminal, or without a module."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from manor_mcp_interceptors._cli.commands import app

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, stdin: str = "") -> Result:
    """Run ``manor-mcp`` with these arguments."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


def run_without(module: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``manor-mcp`` in a new process that cannot import `module`."""
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['manor-mcp', *{arguments!r}]\n"
        "from manor_mcp_interceptors.__main__ import main\n"
        "sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass
class Diagnosis:
    """What ``doctor --json`` reported."""

    exit_code: int
    cause: str | None
    conclusion: str | None
    checks: dict[str, dict[str, Any]]
    text: str

    @property
    def finding(self) -> str:
        """The finding of the check that is the cause."""
        return str(self.checks[str(self.cause)]["finding"])

    @property
    def fix(self) -> str:
        return str(self.checks[str(self.cause)]["fix"])


def doctor(*arguments: str) -> Diagnosis:
    """Run the doctor and read its JSON."""
    result = run("doctor", "--json", *arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    data = json.loads(result.stdout)
    assert data["ok"] is (result.exit_code == 0)
    checks = {check["name"]: check for check in data["checks"]}
    return Diagnosis(result.exit_code, data["cause"], data["conclusion"], checks, result.stdout)


def words(output: str) -> str:
    """Return the text of an error message or a help page on one line, without its box."""
    return " ".join(output.replace("│", " ").split())


def run_on_terminal(*arguments: str, columns: int = 80, **environ: str) -> tuple[int, str]:
    """Run ``manor-mcp`` on a terminal; return the exit code and what the terminal received."""
    main, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "manor_mcp_interceptors", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "TERM": "xterm-256color",
            "COLUMNS": str(columns),
            "LC_ALL": "C.UTF-8",
            **environ,
        },
        stdout=terminal,
        stdin=subprocess.DEVNULL,
    ) as process:
        os.close(terminal)
        parts = []
        while part := _read(main):
            parts.append(part)
    os.close(main)
    return process.returncode, b"".join(parts).decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side is closed
        return b""
