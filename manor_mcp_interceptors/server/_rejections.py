"""Count every refusal; log each kind now and then, so that a flood of them floods no log."""

from __future__ import annotations

import logging
from typing import Final

from manor_mcp_interceptors._telemetry.counters import Counters
from manor_mcp_interceptors._telemetry.log import log

from .reasons import Reason

LOG_EVERY_SECONDS: Final = 60.0


class Rejections:
    """Refusals by reason. Threads may share it; there is no lock to hold or to fork with."""

    __slots__ = ("_counters", "_logged")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._logged: dict[Reason, tuple[float, int]] = {}

    def add(self, reason: Reason, now: float, detail: str = "") -> None:
        """Count a refusal, and log it, with `detail`, where its kind was not in the last minute."""
        self._counters.count("verifications", reason.value)
        logged_at, logged = self._logged.get(reason, (None, 0))
        if logged_at is not None and 0 <= now - logged_at < LOG_EVERY_SECONDS:
            return
        count = self._counters.words("verifications")[reason.value]
        self._logged[reason] = now, count
        what = f"{reason}: {detail}" if detail else reason
        since = count - logged if count > logged else count  # a forked child counts its own
        log(
            logging.WARNING,
            "MCP auth refused a call: %s (%d since the last such line)",
            what,
            since,
        )
