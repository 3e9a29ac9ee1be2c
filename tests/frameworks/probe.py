"""``python -m tests.frameworks.probe NAME URL``, in the framework's environment: prints JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import traceback
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.frameworks.recipes import RECIPES, Recipe

LIFETIME = 3
"""Seconds that a token is valid."""


async def run(recipe: Recipe, url: str) -> None:
    """Make all calls of one framework.

    Raises:
        AssertionError: An answer is not the server's, or came with the old token.
        Exception: Whatever the framework raises.
    """
    async with asynccontextmanager(recipe.steps)(url) as (tools, call):
        assert {"whoami", "slow"} <= set(tools), f"it lists {sorted(tools)}"
        first = issued_at(await call("whoami"))
        await asyncio.sleep(LIFETIME + 1)
        assert issued_at(await call("whoami")) > first + LIFETIME, "it sent the old token"
        answer = str(await call("slow"))
        assert "waited=7" in answer, f"the slow tool answered {answer[:200]}"


def issued_at(answer: object) -> int:
    found = re.search(r"caller=a-framework iat=(\d+)", str(answer))
    assert found, f"whoami answered {str(answer)[:200]}"
    return int(found[1])


def leaf(error: BaseException) -> BaseException:
    """Return the first error of a group of errors."""
    while getattr(error, "exceptions", None):
        error = error.exceptions[0]  # type: ignore[attr-defined]
    return error


def described(error: BaseException) -> str:
    """Return the error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def raised_in(error: BaseException) -> str:
    """Return the installed package whose code raised `error`; empty if it was none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        _, found, path = frame.filename.partition("site-packages/")
        if found:
            return Path(path).parts[0]
    return ""


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def main() -> int:
    recipe, url = RECIPES[sys.argv[1]], sys.argv[2]
    report: dict[str, Any] = {"version": version_of(recipe.package), "mcp": version_of("mcp")}
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(asyncio.wait_for(run(recipe, url), 90))
    except BaseException as error:
        traceback.print_exc()
        report |= {"error": described(leaf(error)), "raised_in": raised_in(leaf(error))}
    sys.stdout.write("\n" + json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
