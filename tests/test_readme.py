"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from manor_mcp_interceptors import Outcome, Settings
from manor_mcp_interceptors.settings import VARIABLES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table under `heading`, without its head."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_configuration_table_is_the_codes() -> None:
    """Each variable once, in order, with the default that the code has."""
    table = rows("Configuration")
    assert [name.strip("`") for name, _, _ in table] == [v.name for v in VARIABLES]
    defaults = Settings()
    for (name, _, shown), variable in zip(table, VARIABLES, strict=True):
        value = getattr(defaults, variable.field)
        if value is not None and variable.field != "subject":
            assert shown == f"`{value:g}`" if isinstance(value, float) else f"`{value}`", name


def test_the_outcomes_table_is_the_codes() -> None:
    """Each outcome once, in order."""
    table = rows("When there is no token")
    assert [name.strip("`") for name, _, _ in table] == [outcome.name for outcome in Outcome]


def test_ci_runs_the_commands_of_the_readme() -> None:
    """What a newcomer types is what is tested on every change."""
    script = (ROOT / ".ci" / "run").read_text()
    commands = re.findall(r"```sh\n(python3 -m venv .*)\n```", README)
    assert len(commands) == 2
    for command in commands:
        assert f"\n{command}\n" in script
