"""Time rows beside each other, round by round, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from statistics import median, quantiles
from typing import Final, Literal, TypeVar

T = TypeVar("T")
Role = Literal["floor", "ours", "peer"]
Unit = Literal["ns", "us", "ms", "KiB", "1/s"]
Run = Callable[[int], float | None]
"""Does the work so many times. May return the seconds it took, where set-up must not count."""

SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}


@dataclass(frozen=True)
class Row:
    """One way to do a table's work."""

    name: str
    run: Run | None
    """None: its library is not installed."""
    role: Role = "peer"
    against: str | None = None
    """The row that it is compared with; None is the table's first."""
    at_most: float | None = None
    """Target: the highest ratio."""
    limit: float | None = None
    """Target: the highest value, in the table's unit."""


@dataclass(frozen=True)
class Result:
    """What came out for one row; times in seconds, sizes in KiB."""

    name: str
    role: Role
    value: float | None
    """Median of wall time, or the size; None where the library is not installed."""
    cpu: float | None = None
    """Median of the process's CPU time, all threads."""
    ratio: float | None = None
    """Median over the rounds of this row's time by its base's in the same round."""
    error: float | None = None
    """How far the true median may be from it, about 95 % (the notch of a box plot)."""
    against: str | None = None
    at_most: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Table:
    title: str
    unit: Unit
    results: list[Result]
    judged_by: Literal["wall", "cpu"] = "wall"
    """Which time the ratios are of."""
    rounds: int = 1
    notes: tuple[str, ...] = ()


@dataclass
class _Samples:
    row: Row
    run: Run
    calls: int = 1
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self) -> float:
        """Run once, keep the times per call, return the wall time of all that counts."""
        gc.disable()
        try:
            cpu, wall = time.process_time(), time.perf_counter()
            own = self.run(self.calls)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        finally:
            gc.enable()
        wall = wall if own is None else own
        self.wall.append(wall / self.calls)
        self.cpu.append(cpu / self.calls)
        return wall

    def calibrate(self, seconds: float) -> None:
        """Find how many calls take about so long; the first ones also warm every cache."""
        self.take()
        while (took := self.take()) < seconds / 2:
            factor = min(seconds / max(took, 1e-7), 100.0)
            self.calls = max(self.calls + 1, int(self.calls * factor))
        self.wall.clear()
        self.cpu.clear()


class Bench:
    """Measures tables: thoroughly, or `quick`, which only proves that everything runs."""

    def __init__(self, *, quick: bool = False, section: str = "", share: int = 1) -> None:
        """Measure for `section`; one of `share` interpreters that divide its rounds."""
        self.quick = quick
        self.section = section
        self.share = share

    def pick(self, thorough: T, quick: T) -> T:
        """Return the first one, or the second in a quick run."""
        return quick if self.quick else thorough

    def compare(
        self,
        title: str,
        rows: Iterable[Row],
        *,
        unit: Unit,
        judged_by: Literal["wall", "cpu"] = "wall",
        rounds: int = 61,
        sample_seconds: float = 0.01,
        alike: bool = False,
        notes: Sequence[str] = (),
    ) -> Table:
        """Time every row once per round, in a new order each round, and set them in relation.

        Args:
            title: Its heading.
            rows: The ways to do the work; the first is what the others are compared with.
            unit: What times are shown in.
            judged_by: Which time the ratios are of.
            rounds: How often each row is timed.
            sample_seconds: How long, about, each time.
            alike: Whether all rows take about as long. Then each sample has as many calls, so
                that what a sample itself costs weighs the same for all, and many short ones can
                be taken far from a garbage collection, which leaves cold caches behind.
            notes: Shown under the table.
        """
        rows = list(rows)
        rounds = 2 if self.quick else max(3, rounds // self.share)
        sample_seconds = 0.0 if self.quick else sample_seconds
        samples = [_Samples(row, row.run) for row in rows if row.run is not None]
        self._progress(title, "calibrating")
        for sample in samples if not self.quick else ():
            sample.calibrate(sample_seconds)
        if alike:
            for sample in samples:
                sample.calls = min(each.calls for each in samples)
        order, chance = list(samples), random.Random(rounds)
        gc.collect()
        gc.freeze()  # what exists already is not looked through again and again
        for number in range(rounds):
            self._progress(title, f"round {number + 1} of {rounds}")
            chance.shuffle(order)
            if number % (20 if alike else 1) == 0:
                gc.collect()
            for sample in order:
                sample.take()
        gc.unfreeze()
        self._progress(title, None)
        taken = {sample.row.name: sample for sample in samples}
        results = [_result(row, taken, rows[0].name, judged_by) for row in rows]
        return Table(title, unit, results, judged_by, rounds, tuple(notes))

    def _progress(self, title: str, state: str | None) -> None:
        if sys.stderr.isatty():
            line = "" if state is None else f"{self.section}: {title}: {state}"
            sys.stderr.write(f"\r\x1b[K{line[:100]}")
        elif state == "calibrating":
            sys.stderr.write(f"{self.section}: {title}\n")
        sys.stderr.flush()


def _result(row: Row, taken: dict[str, _Samples], first: str, judged_by: str) -> Result:
    own = taken.get(row.name)
    if own is None:
        return Result(row.name, row.role, None)
    against = row.against or first
    base = taken[against]
    pairs = zip(own.cpu, base.cpu) if judged_by == "cpu" else zip(own.wall, base.wall)  # noqa: B905 - 3.10
    ratios = [mine / max(theirs, 1e-12) for mine, theirs in pairs]
    return Result(
        row.name,
        row.role,
        median(own.wall),
        median(own.cpu),
        median(ratios),
        notch(ratios),
        against,
        row.at_most,
        row.limit,
    )


def notch(values: Sequence[float]) -> float:
    """Return how far the true median may be from that of `values`, about 95 % (a box plot's)."""
    low, _, high = quantiles(values, n=4)
    return float(1.57 * (high - low) / len(values) ** 0.5)


def calls(function: Callable[[], object]) -> Run:
    """Return a run that calls `function` over and over, with as little of its own as timeit."""

    def run(count: int) -> None:
        for _ in repeat(None, count):
            function()

    return run


def peer(name: str, make: Callable[[], Run], *, against: str | None = None) -> Row:
    """Return a peer's row; one without a run where its library is not installed."""
    try:
        return Row(name, make(), against=against)
    except ModuleNotFoundError:
        return Row(name, None, against=against)
