"""A few seconds of the enforcement soak, in the suite."""

from __future__ import annotations

import pytest

from tests.soak.enforcement import enforcement_soak


@pytest.mark.slow
def test_no_call_meets_another_mode_than_the_flags() -> None:
    """Good tokens pass in both modes; bare calls follow the flag within two seconds."""
    result = enforcement_soak(12.0)
    assert result.is_good, result.report()
    assert result.switches >= 4
