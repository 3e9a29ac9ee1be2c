"""The output of the command line: colour and tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .doctor.checks import Check, State, cause, conclusion

_MARKS: Final = {
    State.OK: ("✓", "ok  ", "green"),
    State.NOTE: ("-", "-   ", "dim"),
    State.WARNING: ("!", "warn", "yellow"),
    State.FAILED: ("✗", "FAIL", "bold red"),
}
_MAX_NAME: Final = 30
"""Columns for the names in a table; a longer name is shown whole."""


def show_checks(checks: Sequence[Check], *, verbose: bool) -> None:
    """Print the checks and a summary."""
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
    for check in checks:
        if check.state is State.WARNING:
            _line(console, State.WARNING, f"Warning: {check.name}.", check.finding)
            _fix(console, check)
    _line(console, State.OK, conclusion(checks), "")


def _fix(console: Console, check: Check) -> None:
    if check.fix:
        arrow = "    →" if _can_draw(console) else "    fix:"
        _row(console, _text(arrow), _text(check.fix, "cyan"))


def show_table(rows: Mapping[str, Any], console: Console | None = None) -> None:
    """Print names and values, one below the other."""
    console = console or Console(highlight=False)
    width = min(max(map(len, rows), default=0), _MAX_NAME)
    for name, value in rows.items():
        words = value if isinstance(value, str) else _json(value, ensure_ascii=False)
        _row(console, _text(f"    {name:{width}} ", "dim"), _text(words))


def show_json(data: object) -> None:
    """Print one JSON document, in ASCII."""
    sys.stdout.write(_json(data, indent=2).replace("\x7f", "\\u007f") + "\n")


def print_line(text: str, style: str = "") -> None:
    """Print a line for people on standard error, so that a pipe gets only data."""
    Console(stderr=True).print(_text(text, style), soft_wrap=True)


def fail(line: str) -> NoReturn:
    """End the command with exit code 1 and this line."""
    print_line(line, "red")
    raise typer.Exit(1)


def wrong_usage(text: str, parameter: str) -> typer.BadParameter:
    """Return the error that ends the command with exit code 2."""
    return typer.BadParameter(_printable(text), param_hint=parameter)


def _text(text: str, style: str = "") -> Text:
    """Return text for the terminal; every text passes here, because it may come from outside."""
    return Text(_printable(text), style)


def _printable(text: str) -> str:
    """Escape the characters that could control a terminal, or that nobody would see."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _json(value: object, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    # Verified claims are read-only: their objects are no dicts.
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii, default=dict)


def _line(console: Console, state: State, name: str, finding: str) -> None:
    sign, word, style = _MARKS[state]
    mark = _text(sign if _can_draw(console) else word, style)
    body = Text.assemble(_text(name, "bold"), "  " if finding else "", _text(finding))
    _row(console, mark, body)


def _row(console: Console, head: Text, body: Text) -> None:
    """Print a row. Only a terminal gets wrapped lines: they would break what grep finds."""
    if not console.is_terminal:
        console.print(Text.assemble(head, " ", body), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(overflow="fold", max_width=_MAX_NAME + 5)
    grid.add_column(overflow="fold")
    grid.add_row(head, body)
    console.print(grid)


def _can_draw(console: Console) -> bool:
    return console.encoding.startswith("utf")
