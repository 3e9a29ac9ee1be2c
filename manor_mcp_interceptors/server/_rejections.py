"""Count every refusal; log each kind now and then, so that a flood of them floods no log."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import Counter
from typing import Final

from .reasons import Reason

_logger = logging.getLogger("manor_mcp_interceptors")

LOG_EVERY_SECONDS: Final = 60.0


class Rejections:
    """Refusals by reason. Threads may share it."""

    def __init__(self) -> None:
        self._counts: Counter[Reason] = Counter()
        self._logged: dict[Reason, tuple[float, int]] = {}
        self.after_fork()
        _all.add(self)

    def after_fork(self) -> None:
        """Start with a free lock: in a forked child, the thread that held it is gone."""
        self._lock = threading.Lock()

    def counts(self) -> dict[Reason, int]:
        """Return how many refusals there were, by reason."""
        with self._lock:
            return dict(self._counts)

    def add(self, reason: Reason, now: float) -> None:
        """Count a refusal, and log it where its kind was not logged in the last minute."""
        with self._lock:
            self._counts[reason] += 1
            count = self._counts[reason]
            logged_at, logged = self._logged.get(reason, (None, 0))
            if logged_at is not None and 0 <= now - logged_at < LOG_EVERY_SECONDS:
                return
            self._logged[reason] = now, count
        # No lock is held here: a log handler may do anything.
        _logger.warning(
            "MCP auth refused a call: %s (%d since the last such line)", reason, count - logged
        )


_all: Final[weakref.WeakSet[Rejections]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for rejections in list(_all):
        rejections.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
