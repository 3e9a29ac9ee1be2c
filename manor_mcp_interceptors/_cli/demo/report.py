"""The table of the demo: one line for each call, and whether it went as expected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from manor_mcp_interceptors.settings import Settings

from .guestbook import NO_TOKEN, REFUSED, Guestbook

WIDTHS: Final = (17, 15, 15, 13)
"""Columns; a row fits a terminal of 80."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One round of all calls: the configuration of both sides, and the expected results."""

    title: str
    settings: Settings
    servers: Settings
    """Those of the servers."""
    flag_on: bool
    seen: str
    """What every server must see: the caller's name, `NO_TOKEN` or `REFUSED`."""

    @property
    def accepted(self) -> bool:
        """Whether the servers must accept the calls."""
        return self.seen not in {NO_TOKEN, REFUSED}


@dataclass(slots=True)
class Call:
    """One call and its answer."""

    transport: str
    what: str
    status: str = "no answer"
    """The answer in the words of the transport: ``HTTP 200``, ``UNAUTHENTICATED``."""
    accepted: bool = False
    caller: str | None = None
    """The caller's name in the response; None if it contains none."""
    seen: str = ""
    """The caller's name in the server's notes, or why it refused."""
    seconds: float = 0.0

    def accept(self, status: str, caller: str | None = None) -> None:
        """Note that the server served the call."""
        self.status, self.accepted, self.caller = status, True, caller

    def refuse(self, status: str) -> None:
        """Note that the server refused the call."""
        self.status = status

    def problem(self, phase: Phase) -> str | None:
        """Return the expectation that did not hold; None if all did."""
        refused = not self.accepted and self.status in {"HTTP 401", "UNAUTHENTICATED"}
        if not (self.accepted if phase.accepted else refused):
            return f"{self.status}, not {'accepted' if phase.accepted else 'refused'}"
        if self.seen != phase.seen:
            return f"the server saw {self.seen or 'nothing'!r}, not {phase.seen!r}"
        if self.caller not in {None, phase.seen}:
            return f"the response names {self.caller!r}, not {phase.seen!r}"
        return None


@dataclass(slots=True)
class Report:
    """Prints each call when it ends, and keeps the unexpected results."""

    write: Callable[[str], object]
    problems: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    _phase: Phase | None = None

    def begin(self, phase: Phase) -> None:
        """Compare the following calls with what `phase` expects."""
        self._phase = phase
        self.write(f"\n{phase.title}")
        self._write_row("", ("transport", "call", "answer", "server saw"), "time")

    @contextmanager
    def call(self, transport: str, what: str, guestbook: Guestbook) -> Iterator[Call]:
        """Time and judge the call made in this context. An error in it does not end the demo."""
        call = Call(transport, what)
        guestbook.read()
        start = time.perf_counter()
        try:
            yield call
        except Exception as error:
            call.accepted = False
            call.status = f"failed: {type(error).__name__}: {error}"
        call.seconds = time.perf_counter() - start
        call.seen = guestbook.read()
        self._judge(call)

    def fail(self, problem: str) -> None:
        """Report a problem that belongs to no single call."""
        self.problems.append(problem)
        self.write(f"FAILED {problem}")

    def _judge(self, call: Call) -> None:
        assert self._phase is not None
        self.calls.append(call)
        problem = call.problem(self._phase)
        columns = (call.transport, call.what, call.status, call.seen)
        mark = "ok" if problem is None else "FAILED"
        self._write_row(mark, columns, f"{call.seconds * 1e3:.1f} ms")
        if problem is not None:
            self.problems.append(f"{self._phase.title}: {call.transport}, {call.what}: {problem}")

    def _write_row(self, mark: str, columns: tuple[str, str, str, str], duration: str) -> None:
        padded = (f"{text:<{width}}" for text, width in zip(columns, WIDTHS, strict=True))
        self.write(f"{mark:<7}{' '.join(padded)} {duration:>9}")
