"""A few seconds of the soak, in the suite."""

from __future__ import annotations

import pytest

from tests.soak.run import Result, soak

pytestmark = pytest.mark.slow

ATTEMPTS = 3


def quiet_soak(seconds: float) -> Result:
    """Run it; once more where the machine stood still for half of the margin.

    A token that is fresh for one more second cannot survive that, whoever mints it.
    """
    result = soak(seconds, lambda line: None)
    for _ in range(ATTEMPTS - 1):
        if result.is_good or result.longest_pause < 0.5:
            break
        result = soak(seconds, lambda line: None)
    return result


def test_no_call_is_refused_or_bare_while_secret_and_flag_change() -> None:
    """Every adapter, three strict servers, a rotation every two seconds, a failing flag."""
    result = quiet_soak(5.0)
    assert result.is_good, result.report()
    assert result.rotations >= 1
    assert result.mints >= 3
