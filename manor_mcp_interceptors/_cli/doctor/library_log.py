"""The last error that a library logged, to show why it gave no answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .answers import redact

WAIT: Final = 1.0
"""Seconds; flagd polls twice in this time."""


class LastError(logging.Handler):
    """Keeps the text of the last error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""
        self._logged = threading.Event()

    def wait(self) -> None:
        """Wait for an error: flagd, for one, reports a broken file only when it polls again."""
        self._logged.wait(WAIT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message and the exception, without its traceback."""
        error = record.exc_info[1] if record.exc_info else None
        cause = "" if error is None else f": {type(error).__name__}: {error}"
        self.text = redact(f"{record.getMessage()}{cause}")
        self._logged.set()


@contextmanager
def last_error(logger_name: str) -> Iterator[LastError]:
    """Keep the last error of this logger and its children until the context ends."""
    handler = LastError()
    logger = logging.getLogger(logger_name)
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
