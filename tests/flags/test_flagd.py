"""A real rollout with flagd, in file mode: the flag file of docs/flag.md, and changes to it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.evaluation_context import EvaluationContext
from openfeature.transaction_context import ContextVarsTransactionContextPropagator

from manor_mcp_interceptors import MCPTokenProvider, OpenFeatureGate, Settings, diagnose, get_token
from tests.support import FLAG, SECRET
from tests.support.eventually import eventually

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[1] / "data" / "flags.json"


@pytest.fixture(autouse=True)
def openfeature(isolated: None) -> Iterator[None]:
    """Leave OpenFeature as it was: without a provider."""
    yield
    api.shutdown()


def start(path: Path) -> None:
    """Set flagd's provider as an application does, with its default poll of 500 ms."""
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(path))
    api.set_provider_and_wait(provider)


class FlagFile:
    """A flag file whose every version is newer than the last: flagd looks at the time alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._time = time.time() - 1000
        self.write(EXAMPLE.read_text())

    def write(self, text: str) -> None:
        draft = self.path.with_suffix(".new")
        draft.write_text(text)
        self._time += 10
        os.utime(draft, (self._time, self._time))
        draft.replace(self.path)

    def switch(self, *, on: bool, state: str = "ENABLED") -> None:
        flags: dict[str, Any] = json.loads(EXAMPLE.read_text())
        flag = {"state": state, "variants": {"on": True, "off": False}}
        flags["flags"][FLAG] = {**flag, "defaultVariant": "on" if on else "off"}
        self.write(json.dumps(flags))


@pytest.fixture
def flag_file(tmp_path: Path) -> FlagFile:
    """Start flagd on a copy of the example."""
    file = FlagFile(tmp_path / "flags.json")
    start(file.path)
    return file


def test_a_named_service_is_in_and_a_percentage_of_the_rest() -> None:
    """30 % of 10,000 subjects, give or take 2; the two named ones always."""
    start(EXAMPLE)
    gate = OpenFeatureGate()
    for service in ("service-indexer", "service-reports"):
        assert gate.is_enabled(FLAG, subject=service) is True
    on = sum(gate.is_enabled(FLAG, subject=f"service-{number}") for number in range(10_000))
    assert 2_800 <= on <= 3_200
    assert gate.is_enabled(FLAG, subject="service-1") is gate.is_enabled(FLAG, subject="service-1")


def test_the_provider_follows_the_rollout() -> None:
    """What flagd says of a subject is what the provider does for it."""
    start(EXAMPLE)
    gate = OpenFeatureGate(blocking=False)
    for number in range(30):
        settings = Settings(secret=SECRET, subject=f"service-{number}")
        enabled = gate.is_enabled(FLAG, subject=settings.subject)
        assert (MCPTokenProvider(settings, gate=gate).token() is not None) is enabled


def test_per_call_a_percentage_of_the_users() -> None:
    """The transaction context's targeting key decides; each user keeps their side."""
    start(EXAMPLE)
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    gate = OpenFeatureGate(per_call=True, blocking=False)
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=gate)

    def authenticated(user: int) -> bool:
        api.set_transaction_context(EvaluationContext(f"user-{user}"))
        return provider.token() is not None

    first = [authenticated(user) for user in range(1_000)]
    assert 240 <= sum(first) <= 360
    assert first == [authenticated(user) for user in range(1_000)]


def test_the_flag_turned_off_takes_effect_within_two_seconds(
    env_on: None, flag_file: FlagFile
) -> None:
    """And turned on as well: flagd polls twice a second, and its event ends the lease."""

    def seconds_to(*, on: bool) -> float:
        flag_file.switch(on=on)
        began = time.monotonic()
        assert eventually(lambda: (get_token() is not None) is on)
        return time.monotonic() - began

    seconds_to(on=True)
    assert max(seconds_to(on=on) for on in (False, True, False)) < 2.0
    assert diagnose().flag_source == "OpenFeature provider FlagdProvider"


def test_a_disabled_flag_is_off(env_on: None, flag_file: FlagFile) -> None:
    """The provider answers with our default, and that is off, whatever the environment says."""
    flag_file.switch(on=True)
    assert eventually(lambda: get_token() is not None)
    flag_file.switch(on=True, state="DISABLED")
    assert eventually(lambda: get_token() is None)


def test_a_broken_flag_file_changes_nothing(env_on: None, flag_file: FlagFile) -> None:
    """Nor does a deleted flag: the last known answer stands."""
    flag_file.switch(on=True)
    assert eventually(lambda: get_token() is not None)
    flag_file.write("{ not json")
    assert eventually(lambda: "last known" in diagnose().flag_source)
    assert get_token() is not None
    flag_file.write('{"flags": {}}')
    explain = MCPTokenProvider.get_instance().explain
    assert eventually(lambda: "FLAG_NOT_FOUND" in str(explain().answer.problem))
    assert get_token() is not None
    flag_file.switch(on=False)
    assert eventually(lambda: get_token() is None)
