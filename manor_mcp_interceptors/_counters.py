"""Counters that are always on: an increment takes no lock, and none is lost."""

from __future__ import annotations

import itertools
import os
import weakref
from typing import Final

from . import _otel

_Ticks = dict[tuple[str, str], "itertools.count[int]"]

_BEFORE: Final = len("count(")


class Counters:
    """Counts events by name, each with an optional word: an outcome, a reason.

    Names and words are constants of this library, so their number is bounded. What one instance
    counts, the process's `TOTALS` counts too. Safe from any thread.
    """

    __slots__ = ("__weakref__", "_ticks", "_total")

    def __init__(self, total: Counters | None = None, *, cleared_by_owner: bool = False) -> None:
        """Count for `total` too; in a forked child, start anew, unless the owner sees to that."""
        self._ticks: _Ticks = {}
        self._total = None if total is None else total._ticks
        if not cleared_by_owner:
            _all.add(self)

    def count(self, name: str, word: str = "") -> None:
        """Count one event."""
        key = name, word
        for ticks in (self._ticks, self._total):
            if ticks is None:
                continue
            try:
                # One step in C: no thread can come between the reading and the writing.
                next(ticks[key])
            except KeyError:
                next(ticks.setdefault(_keys.setdefault(key, key), itertools.count()))

    def read(self) -> dict[tuple[str, str], int]:
        """Return what was counted so far."""
        # Its repr is the one way to read an itertools.count without moving it.
        return {key: int(repr(tick)[_BEFORE:-1]) for key, tick in self._ticks.copy().items()}

    def words(self, name: str) -> dict[str, int]:
        """Return the counts of `name`, by word."""
        return {word: count for (its_name, word), count in self.read().items() if its_name == name}

    def clear(self) -> None:
        """Start from nothing."""
        self._ticks.clear()


_keys: Final[dict[tuple[str, str], tuple[str, str]]] = {}
"""One tuple for each key, however many providers count by it."""
_all: Final[weakref.WeakSet[Counters]] = weakref.WeakSet()
TOTALS: Final = Counters()
"""What all providers and verifiers of this process have counted."""


def _after_fork_in_child() -> None:
    for counters in list(_all):
        counters.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)


def look_for_telemetry() -> None:
    """Export the totals where the application uses OpenTelemetry; for slow paths."""
    if _otel.awaited:
        _otel.look(TOTALS.read)
