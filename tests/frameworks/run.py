"""Run recipes, two at a time, against one server and one bridge to it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import FLAG, SECRET
from tests.support.uvicorn_server import serve

from .environments import ROOT, InstallError, make
from .probe import LIFETIME
from .recipes import Recipe
from .server import application

AT_ONCE = 2
PROBE_SECONDS = 120
Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """What came of one framework."""

    framework: str
    version: str
    mcp: str
    hook: str
    result: str
    date: str

    @property
    def ok(self) -> bool:
        return self.result.startswith("ok")


def run(recipes: Sequence[Recipe], folder: Path, say: Say) -> list[Row]:
    """Return a row for each recipe; the environments are made in `folder`."""
    with serve(application()) as base, bridge_to(f"{base}/mcp", recipes) as bridge:

        def row(recipe: Recipe) -> Row:
            url = bridge if recipe.bridge else f"{base}/mcp"
            return Attempt(recipe, url, folder, say).row()

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(row, recipes))


def environment() -> dict[str, str]:
    """Return the variables of a process whose tokens live for seconds."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MCP_AUTH_")}
    return kept | {
        "MCP_AUTH_SECRET": SECRET,
        FLAG.upper(): "on",
        "SERVICE_NAME": "a-framework",
        "MCP_AUTH_TTL_SECONDS": str(LIFETIME),
        "MCP_AUTH_MARGIN_SECONDS": "1",
        # Some frameworks report their use to their makers.
        "OTEL_SDK_DISABLED": "true",
        "DO_NOT_TRACK": "1",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "MCP_USE_ANONYMIZED_TELEMETRY": "false",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }


@contextmanager
def bridge_to(url: str, recipes: Sequence[Recipe]) -> Iterator[str]:
    """Run the bridge if a recipe needs it; give its URL."""
    if not any(recipe.bridge for recipe in recipes):
        yield ""
        return
    command = [sys.executable, "-m", "manor_mcp_interceptors", "bridge", url]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().partition(" ")[0]
        finally:
            process.terminate()


class Attempt:
    """One framework: install it, call the server with it, and again with the fallback."""

    def __init__(self, recipe: Recipe, url: str, folder: Path, say: Say) -> None:
        self._recipe = recipe
        self._url = url
        self._folder = folder
        self._started = time.monotonic()
        self._output = say

    def row(self) -> Row:
        report = self._report([])
        result = f"FAILED: {report['error']}" if report["error"] else "ok"
        if report["error"] and self._recipe.fallback:
            first, report = report, self._report([self._recipe.fallback])
            result = _after_fallback(self._recipe.fallback, first, report)
        self._say(result)
        return Row(
            self._recipe.name,
            report["version"],
            report["mcp"],
            self._recipe.hook,
            result,
            dt.datetime.now(dt.timezone.utc).date().isoformat(),
        )

    def _report(self, more: list[str]) -> dict[str, str]:
        """Return what the probe printed, or what kept it from printing."""
        packages = [self._recipe.install, *more]
        folder = self._folder / "-".join([self._recipe.name.replace(" ", "-"), *more])
        self._say(f"installing {' '.join(packages)}")
        try:
            python = make(folder, packages)
            self._say("calling")
            command = [str(python), "-m", "tests.frameworks.probe", self._recipe.name, self._url]
            with open(folder / "probe.log", "w", encoding="utf-8") as log:
                done = subprocess.run(
                    command,
                    cwd=ROOT,
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    check=True,
                    timeout=PROBE_SECONDS,
                )
        except (InstallError, subprocess.SubprocessError) as error:
            return _report(error=f"{type(error).__name__}: {error}")
        return _report(**json.loads(done.stdout.splitlines()[-1]))

    def _say(self, text: str) -> None:
        seconds = time.monotonic() - self._started
        self._output(f"{self._recipe.name}: {text} ({seconds:.0f} s)")


def _report(
    version: str = "", mcp: str = "", error: str = "", raised_in: str = ""
) -> dict[str, str]:
    return {"version": version, "mcp": mcp, "error": error, "raised_in": raised_in}


def _after_fallback(fallback: str, first: dict[str, str], second: dict[str, str]) -> str:
    if second["error"]:
        return f"FAILED with {fallback}: {second['error']}"
    kind = first["error"].partition(":")[0]
    return f"ok with {fallback}; with mcp {first['mcp']}: {kind} in {first['raised_in']}"
