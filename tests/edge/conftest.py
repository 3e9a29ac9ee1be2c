"""What the tests of proxies share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .proxies import KINDS
from .upstreams import Upstreams, upstreams

MISSING = {name: what for name, kind in KINDS.items() if (what := kind.missing)}


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of a configuration whose proxy is installed."""
    if request.param in MISSING:
        # One text for all, so that pytest prints one line.
        pytest.skip(f"not installed: {', '.join(sorted(set(MISSING.values())))}; see .ci/run")
    return str(request.param)


@pytest.fixture(scope="session")
def services() -> Iterator[Upstreams]:
    """Return the services behind every proxy."""
    with upstreams() as running:
        yield running
