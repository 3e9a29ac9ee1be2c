"""Counters that are always on: an increment takes no lock, and none is lost."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from manor_mcp_interceptors._waiting import reset_after_fork

from . import otel

Key = tuple[str, str, str]
"""A name, a word and a detail; each of the last two may be empty."""
_Ticks = dict[Key, "itertools.count[int]"]

_BEFORE: Final = len("count(")
_NOTHING: Final[Mapping[Key, int]] = MappingProxyType({})
MAX_DETAILS: Final = 100
"""How many audiences, or ids of keys, are counted separately."""


class BoundedWords:
    """Keeps the number of words from outside bounded: further ones become ``other``."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self, word: str) -> str:
        """Return `word`, or ``other`` if it is new and there are enough."""
        if word not in self._known:
            if len(self._known) >= MAX_DETAILS:
                return "other"
            self._known.add(word)
        return word


AUDIENCES: Final = BoundedWords()
KEY_NAMES: Final = BoundedWords()


class Counters:
    """Counts events by name, each with an optional word (an outcome, a reason) and a detail.

    Names and words are constants of this library and details are `BoundedWords`, so their number
    is bounded. What one instance counts, the process's `TOTALS` counts too. Safe from any thread.
    """

    __slots__ = ("__weakref__", "_ticks", "_total", "_zero")

    def __init__(self, total: Counters | None = None) -> None:
        """Count for `total` too. A forked child counts from zero."""
        self._ticks: _Ticks = {}
        self._zero = _NOTHING
        self._total = total
        reset_after_fork(self)

    def count(self, name: str, word: str = "", detail: str = "") -> None:
        """Count one event."""
        key = name, word, detail
        counters: Counters | None = self
        while counters is not None:
            next(counters._ticks.get(key) or counters.handles(*key)[0])
            counters = counters._total

    def handles(
        self, name: str, word: str = "", detail: str = ""
    ) -> tuple[itertools.count[int], ...]:
        """Return the raw counters for an event; call `next` on each. For hot paths.

        `next` is one step in C, so no thread can come between the reading and the writing.
        """
        key = (name, word, detail)
        own = self._ticks.get(key) or self._ticks.setdefault(key, itertools.count())
        return (own,) if self._total is None else (own, *self._total.handles(*key))

    def read(self) -> dict[Key, int]:
        """Return what was counted so far."""
        counts = {key: count - self._zero.get(key, 0) for key, count in self._counts().items()}
        return {key: count for key, count in counts.items() if count}

    def _counts(self) -> dict[Key, int]:
        # Its repr is the only way to read an itertools.count without advancing it.
        return {key: int(repr(tick)[_BEFORE:-1]) for key, tick in self._ticks.copy().items()}

    def words(self, name: str) -> dict[str, int]:
        """Return the counts of `name`, by word."""
        return self._sums(name, 1)

    def details(self, name: str) -> dict[str, int]:
        """Return the counts of `name`, by detail; without those that have none."""
        return {detail: count for detail, count in self._sums(name, 2).items() if detail}

    def _sums(self, name: str, part: int) -> dict[str, int]:
        sums: dict[str, int] = {}
        for key, count in self.read().items():
            if key[0] == name:
                sums[key[part]] = sums.get(key[part], 0) + count
        return sums

    def after_fork(self) -> None:
        """Count from zero. The raw counters stay: a hot path may hold them."""
        self._zero = self._counts() or _NOTHING


TOTALS: Final = Counters()
"""What all providers and verifiers of this process have counted."""


def look_for_telemetry() -> None:
    """Export the totals if the application uses OpenTelemetry. For slow paths; raises nothing."""
    # `isdisjoint` would walk through all modules: 20 µs in a large application.
    for name in tuple(otel.not_imported_yet):
        if name in sys.modules:
            otel.look(TOTALS.read)
            return  # that has changed the set
