"""Many audiences, many tokens: does one more make the others slower?"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import cycle

from manor_mcp_interceptors import TokenVerifier, get_token

from ._harness import Bench, Result, Row, Run, Table, calls
from ._setup import process_wide
from .verifying import SETTINGS, new_token


def tables(bench: Bench) -> Iterator[Table]:
    """Show the time of a look-up, and the size, as the number grows."""
    yield from _audiences(bench, [1, 10, 100, bench.pick(1000, 110)])
    yield from _tokens(bench, [1, 100, 1000, *bench.pick([10_000, 100_000], [1100])])


def _audiences(bench: Bench, counts: list[int]) -> Iterator[Table]:
    names = [f"service-{number}" for number in range(1, counts[-1] + 1)]
    with process_wide():
        get_token(names[0])
        size = grown(lambda: [get_token(name) for name in names])
        rows = [
            Row(f"get_token() of number {count}", _asking(names[count - 1]), "ours", at_most=1.1)
            for count in counts
        ]
        yield bench.compare(f"get_token() of one of {counts[-1]} audiences", rows, unit="ns")
    result = Result(f"{counts[-1]} audiences, each with a token", "ours", size, limit=2048)
    yield Table("Memory of audiences", "KiB", [result])


def _asking(name: str) -> Run:
    return calls(lambda: get_token(name))


def _tokens(bench: Bench, counts: list[int]) -> Iterator[Table]:
    tokens = [new_token(f"service-{number}") for number in range(counts[-1])]
    rows, sizes = [], []
    for count in counts:
        verifier = TokenVerifier(SETTINGS)
        verifier.verify(tokens[0])
        seen = tokens[:count]
        size = grown(lambda: _verify_all(verifier, seen))  # noqa: B023 - called at once
        name = f"{count:,} distinct tokens"
        sizes.append(Result(name, "ours", size))
        # Those seen last: of more than the memory holds, the first are forgotten.
        rows.append(Row(name, _verifying(verifier, seen[-1000:]), "ours"))
    yield bench.compare("A remembered token, after so many", rows, unit="ns")
    yield Table("Memory of verified tokens", "KiB", sizes)


def _verify_all(verifier: TokenVerifier, tokens: list[str]) -> None:
    for token in tokens:
        verifier.verify(token)


def _verifying(verifier: TokenVerifier, tokens: list[str]) -> Run:
    following = cycle(tokens).__next__
    return calls(lambda: verifier.verify(following()))


def grown(action: Callable[[], object]) -> float:
    """Return by how many KiB of Python's memory `action` leaves more in use."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        action()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / 1024
