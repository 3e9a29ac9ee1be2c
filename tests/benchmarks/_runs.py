"""Measure a section in several interpreters: memory lies differently in each, by 2 % of a call."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from ._harness import Result, Table, notch


def in_fresh_interpreters(section: str, runs: int, *options: str) -> list[Table]:
    """Return what `runs` interpreters found together, each with its share of the rounds.

    Args:
        section: Which to measure.
        runs: How many interpreters.
        *options: More for each one's command line.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{run}.json")) for run in range(runs)]
        found = [_run(section, path, "--share", str(runs), *options) for path in paths]
    return [_merged(tables) for tables in zip(*found)]  # noqa: B905 - 3.10; the same in each


def _run(section: str, path: str, *options: str) -> list[Table]:
    command = [sys.executable, "-m", __package__, section, "--json", path, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    tables = json.loads(Path(path).read_text())["sections"][section]
    return [_read(table) for table in tables]


def _read(table: dict[str, object]) -> Table:
    results = table["results"]
    assert isinstance(results, list)
    made = Table(**{**table, "results": [Result(**result) for result in results]})  # type: ignore[arg-type]
    return replace(made, notes=tuple(made.notes))


def _merged(tables: Sequence[Table]) -> Table:
    rows = zip(*(table.results for table in tables))  # noqa: B905
    note = f"medians of {len(tables)} interpreters; ± is what they differ by, where they time"
    return replace(
        tables[0],
        results=[_middle(row) for row in rows],
        rounds=sum(table.rounds for table in tables),
        notes=(*tables[0].notes, note),
    )


def _middle(results: Sequence[Result]) -> Result:
    ratios = _known(result.ratio for result in results)
    return replace(
        results[0],
        value=_median(_known(result.value for result in results)),
        cpu=_median(_known(result.cpu for result in results)),
        ratio=_median(ratios),
        error=notch(ratios) if len(ratios) > 1 else results[0].error,
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: list[float]) -> float | None:
    return median(values) if values else None
