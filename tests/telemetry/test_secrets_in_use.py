"""The gauge of the secrets in use: whose they are, when they are read, and who waits for that."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, TokenVerifier
from manor_mcp_interceptors._keys.fingerprint import fingerprint
from manor_mcp_interceptors._telemetry.secrets_in_use import MAX_OWNERS, SecretsInUse
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate
from tests.support.eventually import eventually


class Recorder:
    """Holds one secret, and records the threads that ask for its fingerprint."""

    def __init__(self, name: str = "aaaa-bbbb") -> None:
        self.name = name
        self.asked_on: list[threading.Thread] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def fingerprints(self) -> list[tuple[str, str]]:
        self.asked_on.append(threading.current_thread())
        assert self.may_answer.wait(10)
        return [("verifying", self.name)]


def test_a_rotation_is_seen_on_an_idle_service(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are read when an exporter asks: no call has to come first."""
    registry = SecretsInUse()
    for module in ("_decision.configuration", "server._verification"):
        monkeypatch.setattr(f"manor_mcp_interceptors.{module}.secrets_in_use", registry)
    current, previous = tmp_path / "current", tmp_path / "previous"
    current.write_text(SECRET)
    settings = Settings(secret_file=current, previous_secret_file=previous)
    verifier = TokenVerifier(settings, clock=clock)
    provider = MCPTokenProvider(settings, gate=StaticGate(on=False), clock=clock)
    old, new = fingerprint(SECRET), fingerprint(OTHER_SECRET)

    def seen() -> set[tuple[str, str]]:
        clock.advance(1)
        return set(registry.read())

    assert seen() == {("signing", old), ("verifying", old)}
    previous.write_text(f"{SECRET}\n{OTHER_SECRET}\n")
    assert seen() == {("signing", old), ("verifying", old), ("verifying", new)}
    current.write_text(OTHER_SECRET)
    assert seen() == {("signing", new), ("verifying", old), ("verifying", new)}
    previous.write_text("")
    assert seen() == {("signing", new), ("verifying", new)}
    assert (verifier.stats().accepted, provider.stats().mints) == (0, 0)


def test_a_process_that_signs_nothing_shows_no_secret_to_sign_with() -> None:
    """The process-wide provider exists in every process; only its use counts."""
    registry = SecretsInUse()
    assert registry.read() == frozenset()
    owner = Recorder()
    registry.add(owner)
    assert registry.read() == {("verifying", "aaaa-bbbb")}
    del owner
    gc.collect()
    assert registry.read() == frozenset()


def test_an_event_loop_does_not_wait() -> None:
    """A thread reads the secrets there, and the next scrape has them."""
    registry, owner = SecretsInUse(), Recorder()
    registry.add(owner)
    owner.may_answer.clear()

    async def scrape() -> frozenset[tuple[str, str]]:
        return registry.read()

    assert asyncio.run(scrape()) == asyncio.run(scrape()) == frozenset()
    owner.may_answer.set()
    assert eventually(lambda: asyncio.run(scrape()) == {("verifying", "aaaa-bbbb")})
    assert threading.main_thread() not in owner.asked_on
    registry.read()
    assert owner.asked_on[-1] is threading.main_thread()


def test_many_verifiers_with_separate_secrets_are_not_all_shown() -> None:
    """Each new secret costs a tenth of a second; a broken one hides no other."""

    class Broken(Recorder):
        def fingerprints(self) -> list[tuple[str, str]]:
            raise OSError

    registry = SecretsInUse()
    owners = [Broken(), *(Recorder(str(number)) for number in range(100))]
    for owner in owners:
        registry.add(owner)
    assert len(registry.read()) == MAX_OWNERS - 1


def test_a_fingerprint_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each export it is there already."""
    secret = "a secret of this test alone " + "0" * 20
    mark = fingerprint(secret)
    monkeypatch.setattr("hashlib.scrypt", lambda *_, **__: pytest.fail("computed again"))
    assert fingerprint(secret) == mark
