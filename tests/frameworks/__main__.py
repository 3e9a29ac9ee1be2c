"""``python -m tests.frameworks [NAME …]``: which framework works with which release, today."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from .page import PAGE, table, update
from .recipes import RECIPES, Recipe
from .run import run


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.frameworks",
        description="Install the newest release of each framework in an environment of its own, and"
        " call a server that verifies: list the tools, call one, outlive the token, call it again,"
        " call one that takes 7 s.",
        epilog="Names: " + ", ".join(name.replace(" ", "-") for name in RECIPES),
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="a framework; all by default")
    parser.add_argument("--short", action="store_true", help="the list that .ci/run runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the environments there")
    parser.add_argument("--write", action="store_true", help="update docs/frameworks.md")
    return parser.parse_args()


def chosen(names: list[str], *, short: bool) -> list[Recipe]:
    by_argument = {name.replace(" ", "-"): recipe for name, recipe in RECIPES.items()}
    unknown = [name for name in names if name not in by_argument]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; known: {', '.join(by_argument)}")
    recipes = [by_argument[name] for name in names] or list(RECIPES.values())
    return [recipe for recipe in recipes if recipe.short or not short]


def main() -> int:
    options = arguments()
    recipes = chosen(options.names, short=options.short)
    with tempfile.TemporaryDirectory(prefix="frameworks-") as temporary:
        rows = run(recipes, (options.keep or Path(temporary)).resolve(), say)
    say("\n" + table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    if options.write:
        PAGE.write_text(update(PAGE.read_text(), rows))
    failed = sum(not row.ok for row in rows)
    say(f"\n{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
