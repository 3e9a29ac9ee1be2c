"""Counters that are always on: an increment takes no lock, and none is lost."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from manor_mcp_interceptors._waiting import reset_after_fork

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

    def __init__(self, total: Counters | None = None) -> None:
        """Count for `total` too. A forked child counts from zero."""
        self._ticks: _Ticks = {}
        self._zero = _NOTHING
        self._total = total
        reset_after_fork(self)

    def count(self, name: str, word: str = "") -> None:
        """Count one event."""
        counters: Counters | None = self
        while counters is not None:
            next(counters._ticks.get((name, word)) or counters.handles(name, word)[0])
            counters = counters._total

    def handles(self, name: str, word: str = "") -> tuple[itertools.count[int], ...]:
        """Return the raw counters for an event; call `next` on each. For hot paths.

        `next` is one step in C, so no thread can come between the reading and the writing.
        """
        key = (name, word)
        own = self._ticks.get(key) or self._ticks.setdefault(key, itertools.count())
        return (own,) if self._total is None else (own, *self._total.handles(name, word))

    def read(self) -> dict[tuple[str, str], int]:
        """Return what was counted so far."""
        counts = {key: count - self._zero.get(key, 0) for key, count in self._counts().items()}
        return {key: count for key, count in counts.items() if count}

    def _counts(self) -> dict[tuple[str, str], int]:
        # Its repr is the only way to read an itertools.count without advancing it.
        return {key: int(repr(tick)[_BEFORE:-1]) for key, tick in self._ticks.copy().items()}

    def words(self, name: str) -> dict[str, int]:
        """Return the counts of `name`, by word."""
        return {word: count for (its_name, word), count in self.read().items() if its_name == name}

    def after_fork(self) -> None:
        """Count from zero. The raw counters stay: a hot path may hold them."""
        self._zero = self._counts() or _NOTHING


TOTALS: Final = Counters()
"""What all providers and verifiers of this process have counted."""


def look_for_telemetry() -> None:
    """Export the totals if the application uses OpenTelemetry. For slow paths; raises nothing."""
    # `isdisjoint` would walk through all modules: 20 µs in a large application.
    if any(name in sys.modules for name in tuple(otel.not_imported_yet)):
        otel.look(TOTALS.read)
