"""``python -m tests.edge.soak``: `serve-auth` under load by every proxy that asks it.

First for so long; then it is ended by SIGTERM and by SIGKILL in mid-traffic, and started again.
Meanwhile a gRPC stream through each proxy is silent. Ends with 0 if every call had the right
answer, no stream was ended, memory did not grow, and every proxy refused every call while nobody
could verify it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from tests.support import OTHER_SECRET, SECRET
from tests.support.auth_process import AuthProcess, serve_auth

from .grpc_calls import held_stream
from .proxies import KINDS, Proxy, running
from .rotating import bearer
from .tokens import token
from .upstreams import Upstreams, upstreams

CLIENTS: Final = 2
"""Connections to each proxy."""
WHILE_AWAY: Final = 4
"""Calls that each proxy must answer before the verifier is started again."""
WAIT_SECONDS: Final = 20.0
MAX_GROWTH: Final = 1024
"""KiB of resident memory."""
WARM_UP_SECONDS: Final = 3

PASSED: Final = "passed"
REFUSED: Final = "401"
STEADY: Final = "steady"
AWAY: Final = "away"
BETWEEN: Final = "between"
"""A phase that changes while a call is under way has either answer, but an answer."""


@dataclass(frozen=True)
class Answer:
    """One call, and what became of it."""

    phase: str
    proxy: str
    is_good: bool
    """Whether the call had a good token."""
    outcome: str
    """`PASSED`, a status, or the name of the error if there was no answer."""

    @property
    def is_right(self) -> bool:
        if not self.outcome.isdigit() and self.outcome != PASSED:
            return False
        if self.phase == STEADY:
            return self.outcome == (PASSED if self.is_good else REFUSED)
        if self.phase == AWAY:
            return self.outcome != PASSED
        return self.is_good or self.outcome != PASSED


@dataclass
class Result:
    """What happened during the soak."""

    answers: Counter[Answer] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    """Resident KiB of the first `serve-auth`, once a second."""
    exit_codes: list[int] = field(default_factory=list)
    slowest: dict[tuple[str, str], float] = field(default_factory=dict)
    """Seconds of the slowest answer, by phase and proxy."""
    streams: dict[str, list[str]] = field(default_factory=dict)
    """What became of the first and of the last message of a silent stream, by proxy."""

    def wrong(self) -> Counter[Answer]:
        return Counter({one: count for one, count in self.answers.items() if not one.is_right})

    def growth(self) -> int:
        """Return by how many KiB the memory has grown after the first seconds."""
        settled = self.memory[WARM_UP_SECONDS:] or [0]
        window = max(1, len(settled) // 4)
        return min(settled[-window:]) - min(settled[:window])

    @property
    def is_good(self) -> bool:
        """Whether no call was lost or let through, nothing grew, and SIGTERM ended it well."""
        ended = self.exit_codes == [0, -signal.SIGKILL]
        held = all(ends == [PASSED, PASSED] for ends in self.streams.values())
        return not self.wrong() and held and self.growth() <= MAX_GROWTH and ended

    def report(self) -> str:
        """Return it as a table."""
        lines = [f"{'':18}{'calls':>9}{'slowest':>10}  while the verifier is away"]
        for name in sorted({one.proxy for one in self.answers}):
            counts = {one: n for one, n in self.answers.items() if one.proxy == name}
            away = sorted({one.outcome for one in counts if one.phase == AWAY})
            steady, slow = (f"{self.slowest[phase, name]:.2f} s" for phase in (STEADY, AWAY))
            total = sum(counts.values())
            lines.append(f"{name:18}{total:9}{steady:>10}  {', '.join(away)} within {slow}")
        lines += [f"  wrong: {one} x{count}" for one, count in self.wrong().most_common(10)]
        lines.append(f"silent streams: {self.streams}")
        lines.append(f"memory: {min(self.memory)} to {max(self.memory)} KiB, +{self.growth()}")
        lines.append(f"exit codes after SIGTERM and SIGKILL: {self.exit_codes}")
        return "\n".join(lines)


class Soak:
    """Clients that call all proxies, and what they are told meanwhile."""

    def __init__(self) -> None:
        self.result = Result()
        self.phase = STEADY
        self._stop = threading.Event()

    @contextmanager
    def calling(self, proxies: list[Proxy]) -> Iterator[None]:
        """Call until the context ends."""
        threads = [
            threading.Thread(target=self._call, args=(proxy,))
            for proxy in proxies
            for _ in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _call(self, proxy: Proxy) -> None:
        host, port = proxy.http.split(":")
        connection = HTTPConnection(host, int(port), timeout=10)
        name, slowest = proxy.kind.name, self.result.slowest
        values = {token(): True, token(secret=OTHER_SECRET): False, "": False}
        while not self._stop.is_set():
            for value, is_good in values.items():
                before, began = self.phase, time.monotonic()
                outcome = _outcome(connection, value)
                took = time.monotonic() - began
                phase = before if self.phase == before else BETWEEN
                self.result.answers[Answer(phase, name, is_good, outcome)] += 1
                slowest[phase, name] = max(took, slowest.get((phase, name), 0.0))
        connection.close()

    def count(self, phase: str, proxy: Proxy) -> int:
        answers = dict(self.result.answers)
        return sum(n for a, n in answers.items() if (a.phase, a.proxy) == (phase, proxy.kind.name))


def _outcome(connection: HTTPConnection, value: str) -> str:
    try:
        connection.request("GET", "/mcp", headers={"Authorization": f"Bearer {value}"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, HTTPException) as error:
        connection.close()
        return type(error).__name__
    if response.status == 200:
        callers = [value for name, value in json.loads(body) if name == "x-mcp-caller"]
        return PASSED if callers == ["service-a"] else f"the service saw {callers}"
    return str(response.status)


def soak(seconds: float, say: Callable[[str], None]) -> Result:
    """Run for so long, and through the two ends; `say` is given a progress line a second."""
    this = Soak()
    with ExitStack() as stack:
        services = stack.enter_context(upstreams())
        auth = stack.enter_context(_serve())
        proxies = [
            stack.enter_context(_proxy(name, auth, services))
            for name, kind in KINDS.items()
            if kind.asks and not kind.missing
        ]
        streams = {
            proxy.kind.name: stack.enter_context(held_stream(proxy.grpc, bearer(SECRET)))
            for proxy in proxies
        }
        this.result.streams = {name: [send()] for name, send in streams.items()}
        with this.calling(proxies):
            _steady(this, auth, services, seconds, say)
            for number in (signal.SIGTERM, signal.SIGKILL):
                say(f"{number.name}: the verifier is away")
                _end(this, auth, number, proxies)
                auth = stack.enter_context(_serve(auth.port))
                _wait(lambda: all(_passes(proxy) for proxy in proxies))
                this.phase = STEADY
                say("the verifier is back")
                _steady(this, auth, services, 1, say)
        for name, send in streams.items():
            this.result.streams[name].append(send())
    return this.result


def _end(this: Soak, auth: AuthProcess, number: signal.Signals, proxies: list[Proxy]) -> None:
    """End the verifier, and wait until each proxy has answered some calls without it."""
    this.phase = BETWEEN
    this.result.exit_codes.append(auth.stop(number)[0])
    this.phase = AWAY
    _wait(lambda: all(this.count(AWAY, proxy) >= WHILE_AWAY for proxy in proxies))
    this.phase = BETWEEN


def _steady(
    this: Soak,
    auth: AuthProcess,
    services: Upstreams,
    seconds: float,
    say: Callable[[str], None],
) -> None:
    memory: list[int] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(1.0)
        services.calls.clear()
        memory.append(_resident(auth.process.pid))
        say(f"{sum(this.result.answers.values())} calls, {memory[-1]} KiB")
    this.result.memory = this.result.memory or memory


@contextmanager
def _serve(port: int = 0) -> Iterator[AuthProcess]:
    with serve_auth(port=port, environment={"MCP_AUTH_SECRET": SECRET}) as auth:
        yield auth


@contextmanager
def _proxy(name: str, auth: AuthProcess, services: Upstreams) -> Iterator[Proxy]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(
            name,
            Path(folder),
            upstream=services.http,
            grpc_upstream=services.grpc,
            auth=auth.url.removeprefix("http://"),
            environ={"MCP_AUTH_SECRET": SECRET},
        ) as proxy,
    ):
        yield proxy


def _passes(proxy: Proxy) -> bool:
    host, port = proxy.http.split(":")
    connection = HTTPConnection(host, int(port), timeout=10)
    try:
        return _outcome(connection, token()) == PASSED
    finally:
        connection.close()


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError("a proxy did not answer, or did not find the verifier again")
        time.sleep(0.05)


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.edge.soak")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    result = soak(options.seconds, lambda line: print(line, flush=True))  # noqa: T201
    print(result.report())  # noqa: T201
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
