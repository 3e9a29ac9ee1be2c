"""Run the command line in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner, Result

from manor_mcp_interceptors._cli.commands import app


def run(*arguments: str, stdin: str = "") -> Result:
    """Run ``manor-mcp`` with these arguments."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


@dataclass
class Diagnosis:
    """What ``doctor --json`` said."""

    exit_code: int
    cause: str | None
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
    """Run the doctor, for a machine."""
    result = run("doctor", "--json", *arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    data = json.loads(result.stdout)
    assert data["ok"] is (result.exit_code == 0)
    checks = {check["name"]: check for check in data["checks"]}
    return Diagnosis(result.exit_code, data["cause"], checks, result.stdout)
