"""How the command line talks: colour and tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .doctor.checks import Check, State, cause

_MARKS: Final = {
    State.OK: ("✓", "ok  ", "green"),
    State.NOTE: ("-", "-   ", "dim"),
    State.WARNING: ("!", "warn", "yellow"),
    State.FAILED: ("✗", "FAIL", "bold red"),
}


def show_checks(checks: Sequence[Check], *, verbose: bool) -> None:
    """Print the checks, and what they come to."""
    console = Console(highlight=False)
    for check in checks:
        _line(console, check.state, check.name, check.finding)
        show_table(dict(check.details + (check.more if verbose else ())), console)
        _fix(console, check)
    console.print()
    _sum_up(console, checks)


def _sum_up(console: Console, checks: Sequence[Check]) -> None:
    first = cause(checks)
    if first is not None:
        _line(console, State.FAILED, f"The cause: {first.name}.", first.finding)
        _fix(console, first)
        return
    _line(console, State.OK, "A call made now carries a token.", "")
    for check in checks:
        if check.state is State.WARNING:
            _line(console, State.WARNING, f"But: {check.name}.", check.finding)
            _fix(console, check)


def _fix(console: Console, check: Check) -> None:
    if check.fix:
        arrow = "    →" if _can_draw(console) else "    fix:"
        _row(console, Text(arrow), Text(printable(check.fix), "cyan"))


def show_table(rows: Mapping[str, Any], console: Console | None = None) -> None:
    """Print names and values, one below the other."""
    console = console or Console(highlight=False)
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        _row(console, Text(f"    {name:{width}} ", "dim"), Text(printable(str(value))))


def show_json(data: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def say(text: str, style: str = "") -> None:
    """Print a line for people: to the standard error, so that a pipe gets nothing but data."""
    Console(stderr=True).print(Text(printable(text), style), soft_wrap=True)


def printable(text: str) -> str:
    """Escape what could drive a terminal: claims and challenges are other people's words."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _line(console: Console, state: State, name: str, finding: str) -> None:
    sign, word, style = _MARKS[state]
    mark = Text(sign if _can_draw(console) else word, style)
    words = (name, "bold"), "  " if finding else "", printable(finding)
    _row(console, mark, Text.assemble(*words))


def _row(console: Console, head: Text, body: Text) -> None:
    """Print a row; only a terminal's is wrapped, with the rest under the body: no grep minds."""
    if not console.is_terminal:
        console.print(Text.assemble(head, " ", body), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_row(head, body)
    console.print(grid)


def _can_draw(console: Console) -> bool:
    return console.encoding.startswith("utf")
