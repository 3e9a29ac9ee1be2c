"""The demo succeeds on real servers in any environment, and notices what breaks."""

from __future__ import annotations

import logging
import os
import re
import resource
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Settings,
    get_token,
    grpc_aio_interceptors,
    mcp_http_client,
)
from manor_mcp_interceptors._cli.demo import grpc_calls, http_calls, mcp_calls
from manor_mcp_interceptors._cli.demo import run as demo
from manor_mcp_interceptors._cli.mcp_sdk import HAS_SESSIONLESS
from tests.support import OTHER_SECRET, SECRET

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
TRANSPORTS = {
    "requests": 2,
    "httpx": 2,
    "httpx async": 2,
    "httpx2": 2,
    "httpx2 async": 2,
    "aiohttp": 2,
    "urllib, headers": 2,
    "gRPC": 5,
    "gRPC aio": 5,
    "gRPC aio channel": 5,
    "gRPC channel": 5,
    "gRPC credentials": 5,
    "MCP session": 3,
}
if HAS_SESSIONLESS:
    TRANSPORTS["MCP, no session"] = 3
"""How many calls each makes in a phase."""
ENDING = 5.0
"""Seconds that a stopped thread may take to end on a busy machine."""
HOSTILE = {
    "MCP_AUTH_SECRET": "of-the-environment-0123456789-0123456789",
    "MCP_AUTH_TTL_SECONDS": "1h",
    "MCP_AUTH_ALLOWED_HOSTS": "elsewhere.example",
    "MCP_AUTH_AUDIENCE": "someone-else",
    "MANOR_SEARCH_ENABLE_API_TOKEN_V1": "off",
    **dict.fromkeys(
        ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "grpc_proxy"), "http://127.0.0.1:9"
    ),
}
"""An environment in which no call would succeed."""


def test_the_command_succeeds_and_shows_every_call() -> None:
    """A line of 80 columns for each transport and call, in five phases, and nothing else."""
    before = _cpu_seconds_of_children()
    command = [sys.executable, "-W", "error", "-m", "manor_mcp_interceptors", "demo"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **HOSTILE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert _cpu_seconds_of_children() - before < 15
    rows = re.findall(r"^ok +(.+?)  +.* +[0-9.]+ ms$", done.stdout, re.MULTILINE)
    columns = [row for row in done.stdout.splitlines() if row.endswith(" ms")]
    assert len(columns) == len(rows) == 5 * sum(TRANSPORTS.values())
    starts = [line[7:].split("  ")[0].strip() for line in columns]
    for transport, calls in TRANSPORTS.items():
        assert sum(s == transport or s.startswith(f"{transport} ") for s in starts) >= 5 * calls
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "eyJ" not in done.stdout


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what the demo writes; its secrets are known."""
    made = iter([SECRET, OTHER_SECRET])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda size: next(made))
    return []


def test_no_secret_and_no_token_is_shown(
    lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in the table nor in any other output."""
    assert demo.run(lines.append) == 0

    out, err = capfd.readouterr()
    shown = "\n".join([*lines, out, err])
    assert "demo-caller" in shown
    for hidden in (SECRET, OTHER_SECRET, "eyJ"):
        assert hidden not in shown


def test_the_demo_cleans_up_behind_itself(lines: list[str]) -> None:
    """Servers, provider and logging are as they were before."""
    MCPTokenProvider.configure(settings=Settings(secret=SECRET))
    threads = set(threading.enumerate())

    demo.run(lines.append, demo.standard_phases()[:1])

    left = {t for t in threading.enumerate() if t not in threads}
    # A dummy is a thread of the gRPC core that ran Python code once.
    started = {t for t in left if not t.name.startswith("Dummy-")}
    for thread in started:
        # AnyIO, for one, stops its worker threads but does not wait for their end.
        thread.join(ENDING)
    assert {t.name for t in started if t.is_alive()} == set()
    assert get_token() is None  # the environment counts again, and nothing is set there
    assert logging.root.manager.disable == logging.NOTSET


def break_the_expected_caller(monkeypatch: pytest.MonkeyPatch) -> str:
    phase = demo.standard_phases()[0]
    broken = (replace(phase, seen="somebody-else"),)
    monkeypatch.setattr(demo, "standard_phases", lambda: broken)
    return "requests, GET /whoami: the server saw 'demo-caller', not 'somebody-else'"


def break_the_flag(monkeypatch: pytest.MonkeyPatch) -> str:
    phase = demo.standard_phases()[0]
    monkeypatch.setattr(demo, "standard_phases", lambda: (replace(phase, flag_on=False),))
    return "MCP session, initialize: HTTP 401, not accepted"


def accept_what_must_be_refused(monkeypatch: pytest.MonkeyPatch) -> str:
    first, second, _ = demo.standard_phases()
    monkeypatch.setattr(demo, "standard_phases", lambda: (first, replace(second, flag_on=True)))
    return "gRPC, unary: list: OK, 1 message, not refused"


def send_aio_streams_bare(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(grpc_calls, "grpc_aio_interceptors", lambda: grpc_aio_interceptors()[:1])
    return "gRPC aio, both streams: UNAUTHENTICATED, not accepted"


def send_mcp_bare(monkeypatch: pytest.MonkeyPatch) -> str:
    bare = partial(mcp_http_client, auth=lambda request: request)
    monkeypatch.setattr(mcp_calls, "mcp_http_client", bare)
    return "MCP session, list tools: HTTP 401, not accepted"


def make_an_adapter_raise(monkeypatch: pytest.MonkeyPatch) -> str:
    def explode(request: object) -> object:
        raise LookupError("broken")

    monkeypatch.setattr(http_calls, "RequestsAuth", lambda: explode)
    return "requests, POST /search: failed: LookupError: broken, not accepted"


def leave_an_adapter_out(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(demo, "call_grpc", lambda servers, report: None)
    return f"{demo.CALLS_PER_PHASE - 15} calls were made, not {demo.CALLS_PER_PHASE}"


@pytest.mark.parametrize(
    "break_it",
    [
        break_the_expected_caller,
        break_the_flag,
        accept_what_must_be_refused,
        send_aio_streams_bare,
        send_mcp_bare,
        make_an_adapter_raise,
        leave_an_adapter_out,
    ],
)
def test_a_broken_expectation_is_named_and_fails_the_demo(
    break_it: Callable[[pytest.MonkeyPatch], str],
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever breaks, the demo runs to its end, names what broke, and returns 1."""
    problem = break_it(monkeypatch)

    assert demo.run(lines.append, demo.standard_phases()[:2]) == 1

    verdict = "\n".join(lines).rpartition("not go as expected:")[2]
    assert problem in verdict
