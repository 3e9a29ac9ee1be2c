"""The demo's servers are what they claim to be."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from manor_mcp_interceptors._cli.demo import http_service
from manor_mcp_interceptors._cli.demo.uvicorn_thread import serve


def test_the_http_service_checks_as_services_do_today() -> None:
    """The line is copied from services in use: tokens must satisfy it unchanged."""
    line = 'jwt.decode(token, MCP_AUTH_SECRET, algorithms=["HS256"], audience="service-search-mcp")'

    assert line in inspect.getsource(http_service)


def test_an_application_that_does_not_start_is_an_error_at_once() -> None:
    """The caller does not wait for a server that cannot start."""

    @asynccontextmanager
    async def fail(application: Any) -> Any:
        raise LookupError("no database")
        yield

    with (
        pytest.raises(RuntimeError, match="did not start"),
        serve(FastAPI(lifespan=fail)),
    ):
        pytest.fail("it started")
