"""A fleet rotates its secret by the runbook while it works: no call is refused.

Five services under uvicorn call each other in a ring; each is server and caller, with its own two
files. The services take each step in a random order, and each step waits for the number that the
runbook names.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI

from manor_mcp_interceptors import (
    HttpxAuth,
    MCPTokenProvider,
    Settings,
    TokenVerifier,
)
from manor_mcp_interceptors._keys.fingerprint import fingerprint
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency
from manor_mcp_interceptors.server.verifier import verification_of
from tests.cli.running import doctor
from tests.support import OTHER_SECRET, SECRET, StaticGate
from tests.support.eventually import eventually
from tests.support.uvicorn_server import serve

NAMES = ("orders", "stock", "search", "prices", "mail")
RECHECK = 0.05
CALLS = 5_000
STEPS = [
    ("previous", f"{SECRET}\n{OTHER_SECRET}\n"),
    ("current", f"{OTHER_SECRET}\n"),
    ("previous", ""),
]
"""The runbook: the file that a step changes, and what is in it then."""


class Service:
    """Verifies its callers, and calls the next service in the ring."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.write("current", SECRET)
        self.write("previous", "")
        self.settings = Settings(
            secret_file=folder / "current",
            previous_secret_file=folder / "previous",
            subject=name,
            recheck_seconds=RECHECK,
        )
        self.verifier = TokenVerifier(self.settings)
        auth = HttpxAuth(provider=MCPTokenProvider(self.settings, gate=StaticGate()))
        self.client = httpx.AsyncClient(auth=auth, timeout=30)
        self.first_client = httpx.Client(auth=auth, timeout=30)
        self.next_url = ""

    def write(self, name: str, content: str) -> None:
        """Replace a file by rename, as the kubelet does."""
        new = self.folder / f"{name}.new"
        new.write_text(content)
        os.replace(new, self.folder / name)

    def app(self) -> FastAPI:
        app, caller = FastAPI(), MCPTokenDependency(self.verifier)

        @app.get("/ring/{left}", dependencies=[Depends(caller)])
        async def ring(left: int) -> list[int]:
            if left == 0:
                return [200]
            answer = await self.client.get(f"{self.next_url}/ring/{left - 1}")
            return [answer.status_code, *(answer.json() if answer.is_success else [])]

        return app

    def accepts(self) -> set[str]:
        """Return the fingerprints that the gauge of secrets shows for this verifier."""
        return {mark for _, mark in verification_of(self.verifier).fingerprints()}


@contextmanager
def ring(folder: Path) -> Iterator[list[Service]]:
    services = [Service(name, folder / name) for name in NAMES]
    with ExitStack() as stack:
        urls = [stack.enter_context(serve(service.app())) for service in services]
        for number, service in enumerate(services):
            service.next_url = urls[(number + 1) % len(urls)]
            stack.callback(service.first_client.close)
        yield services


class Traffic:
    """Calls all the time, round the ring from each service in turn."""

    def __init__(self, services: list[Service]) -> None:
        self.services = services
        self.statuses: list[int] = []
        self.problems: list[Exception] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(2)]

    def _run(self, number: int) -> None:
        try:
            while not self._stop.is_set():
                service = self.services[number % len(self.services)]
                left = len(self.services) - 1
                answer = service.first_client.get(f"{service.next_url}/ring/{left}")
                inner = answer.json()[:-1] if answer.is_success else []
                self.statuses += [answer.status_code, *inner]
                number += 1
        except Exception as error:
            self.problems.append(error)

    def __enter__(self) -> Traffic:  # noqa: PYI034 - typing has Self from 3.11 on
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, calls: int) -> None:
        """Wait until so many more calls have been made."""
        target = len(self.statuses) + calls
        assert eventually(lambda: len(self.statuses) >= target or bool(self.problems), 60)
        assert self.problems == []


def by_previous(services: list[Service]) -> int:
    """Return how many tokens of the previous secret were accepted so far."""
    return sum(service.verifier.stats().by_key.get("previous", 0) for service in services)


def steps_of(services: list[Service], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the steps that the doctor reports on the services' hosts."""
    steps = set()
    for service in services:
        monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(service.folder / "current"))
        monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET_FILE", str(service.folder / "previous"))
        steps.add(doctor("--server").checks["rotation"]["details"]["step"])
    return steps


def all_accept(services: list[Service], marks: set[str]) -> bool:
    """Return whether each verifier accepts these secrets, and has read its files since."""
    return all(service.accepts() == marks for service in services)


def take_step(services: list[Service], step: int, order: random.Random, traffic: Traffic) -> None:
    """Change one file of each service, in any order, while calls are made."""
    name, content = STEPS[step - 1]
    for service in order.sample(services, len(services)):
        service.write(name, content)
        traffic.goes_on(order.randrange(CALLS // 15))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_ring_of_services_rotates_its_secret_and_refuses_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Thousands of calls; in the end the old secret opens nothing, and the doctor says so."""
    order, old, new = random.Random(seed), fingerprint(SECRET), fingerprint(OTHER_SECRET)
    with ring(tmp_path) as services:
        with Traffic(services) as traffic:
            take_step(services, 1, order, traffic)
            assert eventually(lambda: all_accept(services, {old, new}))
            assert steps_of(services, monkeypatch) == {"1"}
            take_step(services, 2, order, traffic)
            assert steps_of(services, monkeypatch) == {"2"}
            traffic.goes_on(100)  # each service has made calls since it read the new secret
            before = by_previous(services)
            assert before > 0
            traffic.goes_on(CALLS // 10)
            assert by_previous(services) == before
            take_step(services, 3, order, traffic)
            assert eventually(lambda: all_accept(services, {new}))
            assert steps_of(services, monkeypatch) == {"0"}
            traffic.goes_on(max(1, CALLS - len(traffic.statuses)))
        assert set(traffic.statuses) == {200}
        assert [service.verifier.rejections() for service in services] == [{}] * len(services)
        retired = MCPTokenProvider(Settings(secret=SECRET), gate=StaticGate())
        with httpx.Client(auth=HttpxAuth(provider=retired)) as client:
            answers = [client.get(f"{service.next_url}/ring/0") for service in services]
        assert [answer.status_code for answer in answers] == [401] * len(services)
