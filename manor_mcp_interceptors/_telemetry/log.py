"""Log lines, from code that must not raise: a state when it changes, an event at most so often."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

_logger: Final = logging.getLogger("manor_mcp_interceptors")
_State = TypeVar("_State", bound=Hashable)


def log(level: int, message: str, *args: object, exc_info: bool = False) -> None:
    """Log for the caller; an exception of the application's handlers and filters is dropped.

    Python's own handlers raise nothing; a filter or a custom handler may.
    """
    with suppress(Exception):
        _logger.log(level, message, *args, exc_info=exc_info, stacklevel=2)


class LogThrottle:
    """Decides which lines are due, so that nothing is logged at each call.

    There is no lock to hold or to fork with: if two threads meet, a line may appear twice.
    """

    __slots__ = ("_capacity", "_current", "_events", "_every")

    def __init__(self, every: float = 0.0, capacity: int = 256) -> None:
        """Allow one line per key in `every` seconds, for `capacity` keys in that time.

        With ``math.inf`` a key is logged once. Further keys than `capacity` are not logged until
        others are older than `every` seconds.
        """
        self._every = every
        self._capacity = capacity
        self._current: frozenset[Hashable] = frozenset()
        self._events: dict[Hashable, tuple[float, int]] = {}

    def due(self, key: Hashable, now: float = 0.0) -> int:
        """Count an event; return the number since the last line about `key`, 0 if none is due."""
        logged_at, unlogged = self._events.get(key, (-math.inf, 0))
        if 0 <= now - logged_at < self._every:
            self._events[key] = logged_at, unlogged + 1
            return 0
        if key not in self._events and not self._make_room(now):
            return 0
        self._events[key] = now, 0
        return unlogged + 1

    def _make_room(self, now: float) -> bool:
        """Forget keys whose time has passed if there are too many; return whether one more fits."""
        if len(self._events) >= self._capacity:
            for key, (logged_at, _) in self._events.copy().items():
                if not 0 <= now - logged_at < self._every:
                    self._events.pop(key, None)
        return len(self._events) < self._capacity

    def new(self, states: Iterable[_State], now: float = 0.0) -> list[_State]:
        """Return the states to log: they hold now, and did not hold at the last call.

        A state that comes and goes is due once in `every` seconds; the one that stays is logged
        then.
        """
        given = dict.fromkeys(states)
        before = self._current
        if given.keys() == before:
            return []
        due = [state for state in given if state not in before and self._is_due(state, now)]
        self._current = frozenset(state for state in given if state in before or state in due)
        return due

    def _is_due(self, state: Hashable, now: float) -> bool:
        return self._every == 0 or self.due(state, now) > 0
