"""The two parts of docs/frameworks.md that the command writes: the table, and a line for each."""

from __future__ import annotations

from collections.abc import Iterable

from .environments import ROOT
from .recipes import RECIPES
from .run import Row

PAGE = ROOT / "docs" / "frameworks.md"
HEAD = """\
| framework | version | mcp | where the token goes | result | date |
|---|---|---|---|---|---|"""


def table(rows: Iterable[Row]) -> str:
    """Return the rows as Markdown."""
    return "\n".join([HEAD, *(line(row) for row in rows)])


def line(row: Row) -> str:
    cells = (row.framework, row.version, row.mcp, row.hook, row.result, row.date)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def lines_of_code() -> str:
    """Return what the recipes quote, under the names of the frameworks."""
    return "\n\n".join(
        f"### {recipe.name}\n\n```python\n{recipe.quoted()}\n```" for recipe in RECIPES.values()
    )


def update(text: str, rows: Iterable[Row]) -> str:
    """Return the page with these rows in place of the old ones; other rows stay."""
    old = {row.split(" | ")[0].strip("| "): row for row in part(text, "table").splitlines()[2:]}
    new = old | {row.framework: line(row) for row in rows}
    shown = "\n".join([HEAD, *(new[name] for name in RECIPES if name in new)])
    return with_part(with_part(text, "table", shown), "lines", lines_of_code())


def part(text: str, name: str) -> str:
    """Return what stands between the two comments of a name."""
    return _split(text, name)[1].strip("\n")


def with_part(text: str, name: str, content: str) -> str:
    """Return the text with other content there."""
    before, _, after = _split(text, name)
    return f"{before}\n{content}\n{after}"


def _split(text: str, name: str) -> tuple[str, str, str]:
    before, start, rest = text.partition(f"<!-- {name} -->")
    content, end, after = rest.partition(f"<!-- /{name} -->")
    return before + start, content, end + after
