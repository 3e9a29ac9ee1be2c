"""The migration with processes, in the suite."""

from __future__ import annotations

import pytest

from tests.soak.migration import migration_soak


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_ring_of_processes_leaves_its_shared_secret_and_refuses_nobody() -> None:
    """By files and variables alone, with a rolling restart for each step that changes variables."""
    result = migration_soak(lambda line: None)
    assert result.is_good, result.report()
    assert result.statuses[200] > 500
