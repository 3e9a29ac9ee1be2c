from __future__ import annotations

from collections.abc import Iterator

import pytest

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
