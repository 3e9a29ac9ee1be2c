"""Threads, event loops and forks: how to wait in each, and what a forked child resets."""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

LOOP_WAIT: Final = 0.01
"""Seconds that a synchronous call may block the event loop on whose thread it runs."""
POLL_SECONDS: Final = 0.002
"""How often a coroutine checks whether another thread has finished."""

_T = TypeVar("_T")


def event_loop() -> str | None:
    """Return ``asyncio`` or ``trio`` if its event loop runs on this thread, else None."""
    for name, probe in _PROBES.items():
        if (library := sys.modules.get(name)) is not None:
            with suppress(Exception):  # no loop here, or a module that is still being imported
                probe(library)
                return name
    return None


_PROBES: Final[dict[str, Callable[[Any], object]]] = {
    "asyncio": lambda asyncio: asyncio.get_running_loop(),
    "trio": lambda trio: trio.lowlevel.current_task(),
}


async def wait_until(done: Callable[[], bool], seconds: float) -> None:
    """Wait for another thread, at most `seconds`, while the event loop continues."""
    sleep: Callable[[float], Awaitable[None]] = sys.modules[event_loop() or "asyncio"].sleep
    until = time.monotonic() + seconds  # a busy loop sleeps longer than it is told
    # Counted as well: a test may have frozen the clock.
    for _ in range(round(seconds / POLL_SECONDS)):
        if done() or time.monotonic() >= until:
            return
        await sleep(POLL_SECONDS)


async def in_worker_thread(function: Callable[[], _T]) -> _T:
    """Call `function` in a worker thread, in a copy of the caller's context variables."""
    if event_loop() == "trio":
        result: _T = await sys.modules["trio"].to_thread.run_sync(function)
    else:
        result = await sys.modules["asyncio"].to_thread(function)
    return result


class _HasForkState(Protocol):
    def after_fork(self) -> None:
        """Reset locks, and what another thread had begun: in a forked child it is gone."""


_fork_state: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def reset_after_fork(holder: _HasForkState) -> None:
    """Have ``holder.after_fork()`` called in forked children, as long as it lives."""
    _fork_state.add(holder)


def after_fork_in_child() -> None:
    """Reset every holder of fork state."""
    for holder in list(_fork_state):
        holder.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=after_fork_in_child)
