"""Count every refusal; log each kind now and then, so that a flood of them floods no log."""

from __future__ import annotations

import itertools
import logging
from typing import Final

from manor_mcp_interceptors._log import log

from .reasons import Reason

LOG_EVERY_SECONDS: Final = 60.0
_BEFORE: Final = len("count(")


class Rejections:
    """Refusals by reason. Threads may share it; there is no lock to hold or to fork with."""

    __slots__ = ("_logged", "_ticks")

    def __init__(self) -> None:
        self._ticks = {reason: itertools.count(1) for reason in Reason}
        self._logged: dict[Reason, tuple[float, int]] = {}

    def counts(self) -> dict[str, int]:
        """Return how many refusals there were, by reason; a reason that never was is not there."""
        # Its repr is the one way to read an itertools.count without moving it.
        counts = {str(word): int(repr(tick)[_BEFORE:-1]) - 1 for word, tick in self._ticks.items()}
        return {word: count for word, count in counts.items() if count}

    def add(self, reason: Reason, now: float, detail: str = "") -> None:
        """Count a refusal, and log it, with `detail`, where its kind was not in the last minute."""
        count = next(self._ticks[reason])  # one step in C: none is lost between threads
        logged_at, logged = self._logged.get(reason, (None, 0))
        if logged_at is not None and 0 <= now - logged_at < LOG_EVERY_SECONDS:
            return
        self._logged[reason] = now, count
        what = f"{reason}: {detail}" if detail else reason
        since = count - logged
        log(
            logging.WARNING,
            "MCP auth refused a call: %s (%d since the last such line)",
            what,
            since,
        )
