"""One line in the log, from where nothing may raise."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

_logger: Final = logging.getLogger("manor_mcp_interceptors")


def log(level: int, message: str, *args: object, exc_info: bool = False) -> None:
    """Log for the caller; nothing that the application's handlers and filters raise comes back.

    Python's own handlers raise nothing; a filter, or a handler that someone wrote, may.
    """
    with suppress(Exception):
        _logger.log(level, message, *args, exc_info=exc_info, stacklevel=2)
