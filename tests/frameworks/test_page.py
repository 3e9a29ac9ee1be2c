"""docs/frameworks.md is what the command made of the recipes."""

from __future__ import annotations

import ast

from tests.frameworks.page import HEAD, PAGE, lines_of_code, part, update
from tests.frameworks.recipes import RECIPES
from tests.frameworks.run import Row


def rows() -> list[list[str]]:
    """Return the cells of the printed table."""
    lines = part(PAGE.read_text(), "table").splitlines()
    assert "\n".join(lines[:2]) == HEAD
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_each_framework_was_tried_and_works() -> None:
    """One row for each recipe, in their order, with the hook that the recipe has."""
    assert [(row[0], row[3]) for row in rows()] == [(r.name, r.hook) for r in RECIPES.values()]
    assert [row for row in rows() if not row[4].startswith("ok")] == []


def test_the_printed_lines_are_those_that_are_run() -> None:
    """Word for word, and each is Python."""
    assert part(PAGE.read_text(), "lines") == lines_of_code()
    for recipe in RECIPES.values():
        assert "called" not in recipe.quoted()
        compile(recipe.quoted(), recipe.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_a_new_row_replaces_the_old_one() -> None:
    """The rows of frameworks that were not tried this time stay; so does the text around."""
    page = PAGE.read_text()
    row = Row("mcp 1", "9.9", "9.9", "`auth=`", "ok", "2030-01-01")
    changed = update(page, [row])
    assert "| mcp 1 | 9.9 | 9.9 | `auth=` | ok | 2030-01-01 |" in changed
    assert len(changed.splitlines()) == len(page.splitlines())
    assert sum(a != b for a, b in zip(page.splitlines(), changed.splitlines(), strict=True)) == 1


def test_both_majors_are_in_the_short_list() -> None:
    """What .ci/run runs."""
    short = [recipe.name for recipe in RECIPES.values() if recipe.short]
    assert short == [
        "mcp 2",
        "mcp 1",
        "fastmcp 4",
        "fastmcp 3",
        "langchain-mcp-adapters",
        "openai-agents",
    ]
