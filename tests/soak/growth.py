"""Does anything grow? Objects, threads, tasks and file descriptors, counted once a second."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

WARM_UP_SECONDS: Final = 10
WINDOW_SECONDS: Final = 5
"""The least of so many samples is compared: traffic makes each of them larger by chance."""
TOLERANCE: Final = 1.02
KINDS: Final = ("objects", "threads", "pending tasks", "file descriptors")


@dataclass
class Growth:
    """Samples of what the process holds."""

    samples: list[tuple[int, int, int, int]] = field(default_factory=list)

    def table(self) -> list[tuple[str, int, int]]:
        """Return each kind with its least count after the warm-up and at the end.

        Empty if the run was too short to tell.
        """
        settled = self.samples[WARM_UP_SECONDS:]
        if len(settled) < 2 * WINDOW_SECONDS:
            return []
        early, late = settled[:WINDOW_SECONDS], settled[-WINDOW_SECONDS:]
        return [
            (kind, min(sample[i] for sample in early), min(sample[i] for sample in late))
            for i, kind in enumerate(KINDS)
        ]

    def has_grown(self) -> bool:
        return any(after > before * TOLERANCE + 1 for _, before, after in self.table())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take a sample every second meanwhile."""
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,))
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(1.0):
            gc.collect()
            self.samples.append(_sample())


def _sample() -> tuple[int, int, int, int]:
    """Count what the process holds. No list of all objects may outlive this: it would hold them."""
    objects = gc.get_objects()
    tasks = sum(isinstance(each, asyncio.Task) and not each.done() for each in objects)
    descriptors = Path("/proc/self/fd")
    opened = len(os.listdir(descriptors)) if descriptors.exists() else 0
    return len(objects), threading.active_count(), tasks, opened
