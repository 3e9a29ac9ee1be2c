"""Forks, other processes, copies, and a thousand audiences."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from manor_mcp_interceptors import (
    AiohttpAuth,
    GrpcAuthInterceptor,
    Httpx2Auth,
    HttpxAuth,
    MCPTokenProvider,
    RequestsAuth,
    Settings,
    get_token,
    grpc_aio_interceptors,
    provider,
)
from tests.support import FLAG, SECRET, FakeClock, StaticGate, legacy_check

pytestmark = pytest.mark.slow

ADAPTERS: dict[str, Callable[..., Any]] = {
    "RequestsAuth": RequestsAuth,
    "AiohttpAuth": AiohttpAuth,
    "HttpxAuth": HttpxAuth,
    "Httpx2Auth": Httpx2Auth,
    "GrpcAuthInterceptor": GrpcAuthInterceptor,
    "grpc_aio_interceptors": grpc_aio_interceptors,
}


@pytest.mark.untraced
def test_fifty_forks_under_load() -> None:
    """Every child gets a token, whatever lock another thread held, and mints one of its own."""
    environ = {**os.environ, "MCP_AUTH_SECRET": SECRET, FLAG.upper(): "on"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.support.forking"],
        env={**environ, "MCP_AUTH_RECHECK_SECONDS": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


MEASURE = """
import gc, tracemalloc
from manor_mcp_interceptors import get_token

names = [f"service-{number}-mcp" for number in range(1_000)]
assert get_token("before") is not None
tracemalloc.start()
before, _ = tracemalloc.get_traced_memory()
for name in names:
    assert get_token(name) is not None
gc.collect()
print(tracemalloc.get_traced_memory()[0] - before)
"""


def use(made: MCPTokenProvider) -> str | None:
    return made.token()


def test_a_spawned_process_has_its_own(env_on: None) -> None:
    """The process-wide instance arrives as the other process's own, with its audience."""
    instance = MCPTokenProvider.get_instance("other-mcp")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        token = pool.submit(use, instance).result(60)
    assert token is not None
    assert legacy_check(token, audience="other-mcp")


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_copies_and_pickles_carry_no_secret_and_no_token(
    env_on: None, adapter: str, own: bool
) -> None:
    """Of the process-wide provider and of one's own, in every adapter."""
    settings = Settings(secret=SECRET, recheck_seconds=7)
    mine = MCPTokenProvider(settings, gate=None) if own else None
    token = get_token() if mine is None else mine.token()
    made = ADAPTERS[adapter](provider=mine)
    data = pickle.dumps(made)
    assert SECRET.encode() not in data
    assert str(token).encode() not in data
    assert token is not None
    pickle.loads(data)
    copy.copy(made)
    copy.deepcopy(made)


def test_a_copy_is_the_provider_itself(env_on: None, settings: Settings) -> None:
    """Two that mint for themselves would be no copy."""
    mine = MCPTokenProvider(settings, gate=StaticGate())
    assert copy.deepcopy({"auth": mine})["auth"] is mine
    assert copy.copy(mine) is mine
    instance = MCPTokenProvider.get_instance("other-mcp")
    assert pickle.loads(pickle.dumps(instance)) is instance


def test_settings_arrive_without_their_secret(settings: Settings) -> None:
    """The outcome says what is missing."""
    arrived = pickle.loads(pickle.dumps(MCPTokenProvider(settings, gate=None)))
    assert arrived.token() is None


def test_a_thousand_audiences_stay_under_four_mebibytes() -> None:
    """With a token each; measured in a process where nothing else happens."""
    environ = {**os.environ, "MCP_AUTH_SECRET": SECRET, FLAG.upper(): "on"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], env=environ, capture_output=True, text=True, check=True
    )
    assert 0 < int(done.stdout) < 4 * 2**20


def test_the_audiences_are_bounded_and_the_configured_one_stays(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest makes room: no caller can fill the memory with names."""
    monkeypatch.setattr(provider, "MAX_AUDIENCES", 10)
    configured = MCPTokenProvider.get_instance()
    first = MCPTokenProvider.get_instance("0")
    for number in range(1, 100):
        MCPTokenProvider.get_instance(str(number))
    assert MCPTokenProvider.get_instance() is configured
    assert MCPTokenProvider.get_instance("0") is not first


@pytest.mark.parametrize("jitter", [-0.4, -0.001, 0.001, 0.4])
def test_jitter_around_a_second_is_what_the_skew_is_for(
    clock: FakeClock, settings: Settings, jitter: float
) -> None:
    """A server whose clock is behind, or a clock that is corrected, refuses no new token."""
    import jwt

    clock.wall = 1_800_000_000.0
    mine = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)
    for _ in range(5):
        token = mine.token()
        assert token is not None
        issued = jwt.decode(token, options={"verify_signature": False})["iat"]
        assert issued <= clock.wall - 4 + min(jitter, 0)
        clock.step_wall(jitter)
        clock.advance(1)
