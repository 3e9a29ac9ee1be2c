"""Name the callers that still sign with a secret that is being retired."""

from __future__ import annotations

import logging
import math
from typing import Final

from manor_mcp_interceptors._telemetry.log import log

EVERY_SECONDS: Final = 60.0
MAX_SUBJECTS: Final = 20
MAX_CHARACTERS: Final = 80
"""Of one subject in the log."""


class PreviousKeyLog:
    """One line a minute, however many callers there are. Safe from any thread.

    If two threads meet, a line may appear twice.
    """

    __slots__ = ("_logged_at", "_subjects")

    def __init__(self) -> None:
        self._logged_at = -math.inf
        self._subjects: dict[str, None] = {}

    def note(self, subject: str, now: float) -> None:
        """Take note of a token of `subject` at `now`, Unix time; log all subjects if it is time."""
        subjects = self._subjects
        is_due = not 0 <= now - self._logged_at < EVERY_SECONDS
        if subject in subjects and not is_due:  # at every call, until the rotation ends
            return
        if len(subjects) <= MAX_SUBJECTS:
            subjects[subject] = None
        if is_due:
            self._logged_at, self._subjects = now, {}
            log(
                logging.INFO,
                "MCP auth: still signed with the previous secret: %s",
                _names(subjects),
            )


def _names(subjects: dict[str, None]) -> str:
    """Return `subjects` for the log: nothing in them can end the line or be taken for another."""
    names = [ascii(subject[:MAX_CHARACTERS]) for subject in list(subjects)[:MAX_SUBJECTS]]
    return ", ".join([*names, *(["and others"] if len(subjects) > MAX_SUBJECTS else [])])
