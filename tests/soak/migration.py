"""A ring of services leaves its shared secret while it works; each is a process that restarts."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from tests.server.forging import claims, forge, forge_with
from tests.support import FLAG
from tests.support.eventually import eventually
from tests.support.migration import NAMES, NEW_PAIR, PAIRS, ROTATED, Host, migrate

RECHECK: Final = 0.25
TTL: Final = 4
SETTLE: Final = 1.0
"""Seconds in which every service has re-read its files, even on a busy machine."""


@dataclass
class MigrationResult:
    """What the services answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    """By reason, on all services: a call that is refused and then repeated counts too."""
    by_key: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    afterwards: dict[str, list[int]] = field(default_factory=dict)
    """What each service answers to tokens that must be refused now, and to one that must not."""

    @property
    def is_good(self) -> bool:
        """Whether no call was refused, each key was used, and what was retired opens nothing."""
        used = {pair.kid for pair in (*PAIRS.values(), NEW_PAIR)} | {"current", "previous"}
        expected = {name: [401] * len(NAMES) for name in self.afterwards}
        expected["the new key"] = [200] * len(NAMES)
        return (
            set(self.statuses) == {200}
            and not (self.problems or self.rejected)
            and used <= set(self.by_key)
            and self.afterwards == expected
        )

    def report(self) -> str:
        """Return it as text."""
        lines = [f"migration: {self.restarts} restarts"]
        for title, counts in (("status", self.statuses), ("key", self.by_key)):
            lines += [f"{title} {name!s:45}{count:8}" for name, count in counts.items()]
        lines += [f"  refused: {reason} ({count})" for reason, count in self.rejected.items()]
        lines += [f"  problem: {text}" for text in self.problems[:5]]
        lines += [f"afterwards, {name}: {found}" for name, found in self.afterwards.items()]
        return "\n".join(lines)


class Service:
    """One host's process, and the file that tells its caller where it is."""

    def __init__(self, host: Host, next_service: Path, own_url: Path) -> None:
        self.host = host
        self._next = next_service
        self._own = own_url
        self.process = self._start()
        self.url = self._url()

    def _start(self) -> subprocess.Popen[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if "MCP_AUTH" not in name},
            **self.host.variables,
            "RING_NEXT": str(self._next),
            FLAG.upper(): "on",
            "MCP_AUTH_RECHECK_SECONDS": str(RECHECK),
            "MCP_AUTH_TTL_SECONDS": str(TTL),
            "MCP_AUTH_MARGIN_SECONDS": "1",
        }
        command = [sys.executable, "-m", "tests.soak.ring_service"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def _url(self) -> str:
        assert self.process.stdout is not None
        return f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def publish(self) -> None:
        """Wait until it answers, and let its caller use it."""
        assert eventually(self._answers)
        new = self._own.with_suffix(".new")
        new.write_text(self.url)
        os.replace(new, self._own)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/stats", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def add_counts_to(self, result: MigrationResult) -> None:
        """Add what it has counted since its start."""
        stats = httpx.get(f"{self.url}/stats", trust_env=False).json()
        result.rejected.update(stats["rejected"])
        result.by_key.update(stats["by_key"])

    def stop(self) -> None:
        """End it when it has answered the calls that are under way."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)


class Processes:
    """The fleet: a step that changes variables replaces a process, as a rolling restart does."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.result = MigrationResult()
        self.hosts = [Host(name, folder / name) for name in NAMES]
        self._say = say
        urls = [host.folder / "url" for host in self.hosts]
        self._places = {
            host.name: (urls[(number + 1) % len(urls)], urls[number])
            for number, host in enumerate(self.hosts)
        }
        self.services = {host.name: Service(host, *self._places[host.name]) for host in self.hosts}
        for service in self.services.values():
            service.publish()

    def changed(self, host: Host, *, restart: bool) -> None:
        if restart:
            old = self.services[host.name]
            new = Service(host, *self._places[host.name])
            new.publish()
            self.services[host.name] = new
            time.sleep(SETTLE / 2)  # both work: the old one has calls under way
            old.add_counts_to(self.result)
            old.stop()
            self.result.restarts += 1
        time.sleep(RECHECK / 2)
        calls = sum(self.result.statuses.values())
        self._say(f"{host.name}: {'restarted' if restart else 'files changed'}; {calls} calls")

    def settle(self) -> None:
        time.sleep(SETTLE)

    def outlive(self) -> None:
        time.sleep(TTL + 1)

    def stop(self) -> None:
        for service in self.services.values():
            service.stop()

    def call_all_the_time(self, stop: threading.Event) -> None:
        """Start a call round the ring at each service in turn."""
        for number in range(sys.maxsize):
            if stop.wait(0.02):  # leaves some of the processor to what restarts
                return
            service = self.services[NAMES[number % len(NAMES)]]
            try:
                answer = httpx.get(f"{service.url}/start/{len(NAMES)}", timeout=30, trust_env=False)
            except httpx.TransportError as error:
                # This caller, unlike the ring, may meet a process that has just been replaced.
                if service is self.services[service.host.name]:
                    self.result.problems.append(type(error).__name__)
                continue
            self.result.statuses.update(answer.json() if answer.is_success else [500])


@contextmanager
def traffic(fleet: Processes) -> Iterator[None]:
    """Call all the time."""
    stop = threading.Event()
    threads = [threading.Thread(target=fleet.call_all_the_time, args=(stop,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def migration_soak(say: Callable[[str], None]) -> MigrationResult:
    """Take the steps under load; then try what was retired."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        fleet = Processes(Path(folder), say)
        stack.callback(fleet.stop)
        with traffic(fleet):
            migrate(fleet.hosts, fleet, random.Random(1))
        for service in fleet.services.values():
            service.add_counts_to(fleet.result)
        fleet.result.afterwards = _afterwards(fleet)
        return fleet.result


def _afterwards(fleet: Processes) -> dict[str, list[int]]:
    now = int(time.time())
    tokens = {
        "the secret": forge(claims(now)),
        "the retired key": forge_with(PAIRS[ROTATED], claims(now, sub=ROTATED)),
        "the key of another service": forge_with(NEW_PAIR, claims(now, sub=NAMES[1])),
        "the new key": forge_with(NEW_PAIR, claims(now, sub=ROTATED)),
    }
    return {
        name: [_status(each, token) for each in fleet.services.values()]
        for name, token in tokens.items()
    }


def _status(service: Service, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{service.url}/ring/0", headers=headers, trust_env=False).status_code
