from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from manor_mcp_interceptors._keys.tokens import mint
from tests.support.grpc_clients import WatchedProvider
from tests.support.grpc_server import GrpcServer


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    """Run a gRPC server for one test."""
    with GrpcServer() as running:
        yield running


@pytest.fixture
def provider() -> WatchedProvider:
    """Return a provider of the test's own, with the flag on."""
    return WatchedProvider()


@pytest.fixture
def mints(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows with each token minted."""
    minted: list[Any] = []

    def counting(*args: Any) -> Any:
        minted.append(args)
        return mint(*args)

    monkeypatch.setattr("manor_mcp_interceptors._decision.token_cache.mint", counting)
    return minted
