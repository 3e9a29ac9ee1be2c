from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.http_clients import TestProvider
from tests.support.http_server import HttpServer, ok


@pytest.fixture(scope="module")
def running() -> Iterator[HttpServer]:
    """Run an HTTP server for the tests of one module."""
    with HttpServer() as server:
        yield server


@pytest.fixture
def server(running: HttpServer) -> HttpServer:
    """Return the module's server as a test finds it: it accepts every request."""
    running.start_over(ok)
    return running


@pytest.fixture
def provider() -> TestProvider:
    """Return a provider of the test's own, with the flag on."""
    return TestProvider()
