"""Two processes that talk to each other, each on a core of its own.

A thread that wakes another on a different core costs more than one on the same, and the scheduler
chooses anew all the time. Pinned, a call costs the same each time, so that a difference of some
thousandths can be seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pinned() -> Iterator[tuple[int | None, str]]:
    """Keep this process on one core; yield another core, and a note for the table.

    Threads that exist already stay where they are. Where the system pins nothing, or has one core
    only, there is no other core (None).
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) <= 1:
        yield None, "nothing is pinned: this system cannot, or has one core"
        return
    other, mine = cores[0], cores[-1]
    os.sched_setaffinity(0, {mine})
    try:
        yield other, f"pinned: the client to core {mine}, the server to core {other}"
    finally:
        os.sched_setaffinity(0, cores)


def pin(core: int) -> None:
    """Keep this process, which has no threads yet, on that core."""
    os.sched_setaffinity(0, {core})
