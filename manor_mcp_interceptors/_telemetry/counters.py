"""Counters that are always on: an increment takes no lock, and none is lost."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from . import otel

_Ticks = dict[tuple[str, str], "itertools.count[int]"]

_BEFORE: Final = len("count(")
_NOTHING: Final[Mapping[tuple[str, str], int]] = MappingProxyType({})


class Counters:
    """Counts events by name, each with an optional word: an outcome, a reason.

    Names and words are constants of this library, so their number is bounded. What one instance
    counts, the process's `TOTALS` counts too. Safe from any thread.
    """

    __slots__ = ("__weakref__", "_ticks", "_total", "_zero")

    def __init__(self, total: Counters | None = None, *, cleared_by_owner: bool = False) -> None:
        """Count for `total` too; in a forked child, start anew, unless the owner sees to that."""
        self._ticks: _Ticks = {}
        self._zero = _NOTHING
        self._total = total
        if not cleared_by_owner:
            _all.add(self)

    def count(self, name: str, word: str = "") -> None:
        """Count one event."""
        for tick in self.ticks(name, word):
            next(tick)

    def ticks(self, name: str, word: str = "") -> tuple[itertools.count[int], ...]:
        """Return what one event moves, each with `next`: to be kept where `count` is too slow.

        That is one step in C: no thread can come between the reading and the writing.
        """
        key = _keys.setdefault((name, word), (name, word))
        own = self._ticks.get(key) or self._ticks.setdefault(key, itertools.count())
        return (own,) if self._total is None else (own, *self._total.ticks(name, word))

    def read(self) -> dict[tuple[str, str], int]:
        """Return what was counted so far."""
        counts = {key: count - self._zero.get(key, 0) for key, count in self._counts().items()}
        return {key: count for key, count in counts.items() if count}

    def _counts(self) -> dict[tuple[str, str], int]:
        # Its repr is the one way to read an itertools.count without moving it.
        return {key: int(repr(tick)[_BEFORE:-1]) for key, tick in self._ticks.copy().items()}

    def words(self, name: str) -> dict[str, int]:
        """Return the counts of `name`, by word."""
        return {word: count for (its_name, word), count in self.read().items() if its_name == name}

    def clear(self) -> None:
        """Start from nothing. The ticks stay: others may hold on to them."""
        self._zero = self._counts() or _NOTHING


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
    if otel.awaited:
        otel.look(TOTALS.read)
