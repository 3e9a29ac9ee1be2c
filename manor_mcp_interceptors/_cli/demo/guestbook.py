"""What a server saw of its callers, for the demo to read."""

from __future__ import annotations

import threading
from typing import Final

NO_TOKEN: Final = "no token"  # noqa: S105 - it says so itself
REFUSED: Final = "token refused"


class Guestbook:
    """Notes, per request, who the server takes the caller to be, or why it refused. Thread-safe."""

    def __init__(self) -> None:
        self._notes: set[str] = set()
        self._lock = threading.Lock()

    def note(self, seen: str) -> None:
        """Write down a caller's name, `NO_TOKEN` or `REFUSED`."""
        with self._lock:
            self._notes.add(seen)

    def read(self) -> str:
        """Return what was noted since the last reading, and start a new page."""
        with self._lock:
            notes, self._notes = self._notes, set()
        return ", ".join(sorted(notes))
