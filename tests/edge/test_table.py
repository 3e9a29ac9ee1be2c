"""Every call of the table through every configuration."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support import SECRET

from .cases import CALLER, GRPC, HTTP, NEVER, REFUSED, Case, bearer
from .conftest import MISSING
from .deviations import DEVIATIONS, LOOSE
from .fuzz import compare
from .harness import keys_of_the_table, proxy_and_verifier
from .table import expected, http_outcome, offenders, outcomes
from .tokens import token
from .upstreams import Upstreams


def test_every_proxy_is_installed() -> None:
    """The other tests here are left out for a proxy that is not."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(sorted(set(MISSING.values())))}; see .ci/run")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_every_call_ends_as_measured(
    name: str, mode: str, services: Upstreams, tmp_path: Path
) -> None:
    """The service sees the verified caller or none; what is not verified does not reach it.

    In observe mode it does, without a name.
    """
    environ = {**keys_of_the_table(tmp_path), "MCP_AUTH_ENFORCEMENT": mode}
    with proxy_and_verifier(name, services, tmp_path / "proxy", environ) as proxy:
        found = outcomes(proxy, services)
    assert offenders(expected(name, observe=mode == "observe"), found) == []


@pytest.mark.slow
def test_a_token_expires_at_the_beginning_of_its_second(
    name: str, services: Upstreams, tmp_path: Path
) -> None:
    """C's `time` is milliseconds behind the clock by which tokens are made."""
    with proxy_and_verifier(name, services, tmp_path, {"MCP_AUTH_SECRET": SECRET}) as proxy:
        expiry = int(time.time() + 0.5) + 1  # time enough for the first call
        case = Case("", bearer(lambda: token(exp=expiry)), "")
        before = http_outcome(proxy, services, case)
        time.sleep(max(0.0, expiry - time.time()))
        while time.time() < expiry:
            pass
        after = http_outcome(proxy, services, case)
    assert (before, after) == (CALLER, REFUSED)


@pytest.mark.slow
def test_only_the_form_of_a_token_is_looked_at_less_strictly(
    name: str, services: Upstreams, tmp_path: Path
) -> None:
    """Strange tokens with a good signature: the claims that get through are those of a good one."""
    with proxy_and_verifier(name, services, tmp_path, {"MCP_AUTH_SECRET": SECRET}) as proxy:
        found = compare(proxy, services, calls=600, seed=1)
    assert found.pop("passed") > 100
    assert found.keys() <= LOOSE.get(name, set())


def test_the_table_is_large_enough_and_no_deviation_is_an_open_door() -> None:
    """No configuration may be expected to let through what is forged, unsigned or expired."""
    names = [case.name for case in HTTP] + [case.name for case in GRPC]
    assert len(names) == len(set(names))
    assert (len(HTTP) >= 50, len(GRPC) >= 15) == (True, True)
    never = {case.name for case in NEVER}
    assert [
        (name, case)
        for name, deviations in DEVIATIONS.items()
        for case, outcome in deviations.items()
        if case not in names or (case in never and not outcome.isdigit())
    ] == []
