"""What is wrong with a gate, told to the log when it changes, and no more often than is useful."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from .log import log

LINES: Final = 4
"""How many changes for the worse or the better are logged in a row."""
LINE_SECONDS: Final = 60.0
"""After those, one in so long: a gate that fails every other time must not fill the log."""


class FlagTrouble:
    """Knows what was said last. Safe from any thread."""

    def __init__(self) -> None:
        self.said: str | None = None
        """What is wrong, as far as the log knows; None: nothing."""
        self._lines = float(LINES)
        self._line_at = time.monotonic()
        self.after_fork()

    def after_fork(self) -> None:
        """Start with a free lock: in a forked child, the thread that held it is gone."""
        self._lock = threading.RLock()

    def say(self, problem: str | None) -> None:
        """Log a change for the worse or the better, once."""
        if problem == self.said:
            return
        with self._lock:
            if problem == self.said or not self._may_log():
                return
            self.said = problem
        if problem is None:
            log(logging.INFO, "flag backend answers again")
        else:
            log(logging.WARNING, "%s", problem)

    def _may_log(self) -> bool:
        now = time.monotonic()
        self._lines = min(LINES, self._lines + (now - self._line_at) / LINE_SECONDS)
        self._line_at = now
        if self._lines < 1:
            return False  # what holds by then is said later
        self._lines -= 1
        return True
