"""The cached token, asked for by many threads at once: does it take longer in all?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import repeat

from manor_mcp_interceptors import get_token

from ._harness import Bench, Row, Run, Table
from ._setup import LockedSnapshot, Snapshot, process_wide

THREADS = (8, 32)


def tables(bench: Bench) -> Iterator[Table]:
    """Compare the total time of the same number of calls, made by one thread and by many."""
    with process_wide() as token:
        rows = [
            Row("get_token(), 1 thread", together(get_token, 1), "ours"),
            # A throughput of 0.95 x is a time of 1 / 0.95.
            *(
                Row(f"get_token(), {n} threads", together(get_token, n), "ours", at_most=1 / 0.95)
                for n in THREADS
            ),
            *_floor("bare snapshot", Snapshot(token).get),
            *_floor("a lock per read", LockedSnapshot(token).get),
        ]
        yield bench.compare(
            "The same number of calls from many threads",
            rows,
            unit="ns",
            rounds=21,
            sample_seconds=0.3,  # long beside the 2 ms that it takes to wake 32 threads
            notes=("throughput is 1 / ratio; each row of many threads beside its own one thread",),
        )


def _floor(name: str, function: Callable[[], object]) -> Iterator[Row]:
    alone = f"{name}, 1 thread"
    yield Row(alone, together(function, 1), "floor", against=alone)
    for n in THREADS:
        yield Row(f"{name}, {n} threads", together(function, n), "floor", against=alone)


def together(function: Callable[[], object], threads: int) -> Run:
    """Return a run that shares its calls between threads, timed from their common start."""

    def run(count: int) -> float:
        ready = threading.Barrier(threads + 1)
        share = max(1, count // threads)

        def work() -> None:
            ready.wait()
            for _ in repeat(None, share):
                function()

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        ready.wait()
        start = time.perf_counter()
        for worker in workers:
            worker.join()
        return (time.perf_counter() - start) * count / (share * threads)

    return run
