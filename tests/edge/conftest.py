"""What the tests of proxies share. Those of a proxy that is not installed are left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .proxies import KINDS
from .upstreams import Upstreams, upstreams

HERE = Path(__file__).parent
MISSING = {name: what for name, kind in KINDS.items() if (what := kind.missing)}

_ASKING = {name for name, kind in KINDS.items() if kind.asks}
collect_ignore = [] if _ASKING - MISSING.keys() else ["test_soak.py"]


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of a configuration whose proxy is installed."""
    return str(request.param)


@pytest.fixture(scope="session")
def services() -> Iterator[Upstreams]:
    """Return the services behind every proxy."""
    with upstreams() as running:
        yield running


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot run; `test_every_proxy_is_installed` says so, in one line."""
    absent = [item for item in items if item.path.parent == HERE and _needs(item) in MISSING]
    items[:] = [item for item in items if item not in absent]
    if absent:
        config.hook.pytest_deselected(items=absent)


def _needs(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("name")
