"""Show tables: as text, as JSON, as a plot."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any

from ._harness import SECONDS, Result, Table

COLOURS = {"floor": "0.6", "ours": "tab:blue", "peer": "tab:orange"}


def scale(value: float, table: Table) -> float:
    """Return a value in the table's unit."""
    if table.unit == "1/s":
        return 1 / value
    return value / SECONDS[table.unit] if table.unit in SECONDS else value


def verdict(result: Result, table: Table) -> str:
    """Say whether the row's target is met; empty where it has none."""
    if result.value is None:
        return ""
    if result.at_most is not None and result.ratio is not None:
        over = result.ratio - result.at_most
        word = "met" if over <= 0 else "unclear" if over <= (result.error or 0) else "MISSED"
        return f"{word}, <= {result.at_most:.3g} x"
    if result.limit is not None:
        met = scale(result.value, table) <= result.limit
        return f"{'met' if met else 'MISSED'}, <= {result.limit:g} {table.unit}"
    return ""


def as_text(table: Table) -> str:
    """Return the table for a terminal."""
    timed = _is_timed(table)
    what = "calls a second" if table.unit == "1/s" else f"{table.unit} per call"
    what = f"{what}, median of {table.rounds} rounds" if timed else table.unit
    judged = f"; ratios of {table.judged_by} time" if timed else ""
    width = max(len(result.name) for result in table.results)
    lines = [f"{table.title}  ({what}{judged})", *_lines(table, width)]
    return "\n".join([*lines, *(f"  note: {note}" for note in table.notes)])


def _is_timed(table: Table) -> bool:
    return table.unit in SECONDS or table.unit == "1/s"


def _lines(table: Table, width: int) -> Iterator[str]:
    timed = _is_timed(table)
    heads = ("wall", "cpu", "ratio") if timed else ("size", "", "")
    yield f"  {'':5} {'':{width}} {heads[0]:>10} {heads[1]:>10} {heads[2]:>8}".rstrip()
    for result in table.results:
        start = f"  {result.role:5} {result.name:{width}}"
        if result.value is None:
            yield f"{start} {'not installed':>21}"
            continue
        has_cpu = result.cpu is not None and table.unit != "1/s"
        cpu = f"{scale(result.cpu or 0, table):,.4g}" if has_cpu else ""
        ratio = "" if result.ratio is None else f"{result.ratio:8.3f}"
        spread = "" if not result.error else f"±{result.error:.3f}"
        digits = ",.0f" if table.unit == "1/s" else ",.4g"
        value = format(scale(result.value, table), digits)
        line = f"{start} {value:>10} {cpu:>10} {ratio:8} {spread:8} {verdict(result, table)}"
        yield line.rstrip()


def write_json(path: str, sections: dict[str, list[Table]]) -> None:
    """Write all numbers, and what they were taken on."""
    machine = {
        "python": sys.version,
        "platform": platform.platform(),
        "cpus": import_module("os").cpu_count(),
    }
    tables = {name: [asdict(table) for table in found] for name, found in sections.items()}
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "sections": tables}, file, indent=1)


def write_plot(path: str, tables: Sequence[Table]) -> None:
    """Draw each table's ratios as a PNG; needs matplotlib."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    heights = [len(_drawn(table)) + 2 for table in tables]
    figure, axes = pyplot.subplots(
        len(tables),
        1,
        figsize=(10, 0.28 * sum(heights)),
        squeeze=False,
        height_ratios=heights,
        layout="constrained",
    )
    for axis, table in zip(axes[:, 0], tables):  # noqa: B905 - 3.10
        _draw(axis, table)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _drawn(table: Table) -> list[Result]:
    return [result for result in table.results if result.value is not None]


def _draw(axis: Any, table: Table) -> None:
    results = _drawn(table)[::-1]
    ratios = [scale(r.value or 0, table) if r.ratio is None else r.ratio for r in results]
    colours = [COLOURS[result.role] for result in results]
    bars = axis.barh([result.name for result in results], ratios, color=colours)
    axis.bar_label(bars, labels=[f"{ratio:.3g}" for ratio in ratios], padding=3, fontsize=7)
    axis.tick_params(labelsize=7)
    if max(ratios) > 20 * min(ratios):  # else bars from 0, whose lengths can be compared
        axis.set_xscale("log")
    axis.margins(x=0.12)
    sizes = any(result.ratio is None for result in results)
    axis.set_title(f"{table.title} ({table.unit if sizes else 'ratio'})", fontsize=9, loc="left")
