"""The callers that a server saw, for the demo to read."""

from __future__ import annotations

import threading
from typing import Final

NO_TOKEN: Final = "no token"  # noqa: S105 - it is no password
REFUSED: Final = "token refused"


class Guestbook:
    """Notes the caller of each request, or why it was refused. Thread-safe."""

    def __init__(self) -> None:
        self._notes: set[str] = set()
        self._lock = threading.Lock()

    def note(self, seen: str) -> None:
        """Note a caller's name, `NO_TOKEN` or `REFUSED`."""
        with self._lock:
            self._notes.add(seen)

    def read(self) -> str:
        """Return the notes since the last call."""
        with self._lock:
            notes, self._notes = self._notes, set()
        return ", ".join(sorted(notes))
