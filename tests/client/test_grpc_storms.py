"""A server that refuses everything, and many calls at once: what it costs is bounded."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.support.grpc_clients import (
    WAYS,
    WatchedProvider,
    aio_channel,
    bearer,
    sync_channel,
)
from tests.support.grpc_server import AIO_CALLS, SYNC_CALLS, GrpcServer

pytestmark = pytest.mark.slow

CALLERS = 20
PATIENCE = 30.0
"""Seconds until a call that waits for others counts as stuck."""
OVER_A_MARGIN = 31


def call_at_once(way: tuple[str, str], target: str, provider: WatchedProvider) -> None:
    """Make a call from each thread or task, over one channel; each must be refused."""
    if way[0].startswith("sync"):
        with grpc.insecure_channel(target) as bare, ThreadPoolExecutor(CALLERS) as pool:
            channel = sync_channel(way[0], bare, provider=provider)
            made = [
                pool.submit(SYNC_CALLS[way[1]], channel, timeout=PATIENCE) for _ in range(CALLERS)
            ]
            errors: list[Any] = [call.exception() for call in made]
    else:
        errors = asyncio.run(_gather(way, target, provider))
    codes = [error.code() for error in errors]
    assert codes == [grpc.StatusCode.UNAUTHENTICATED] * CALLERS
    for _ in range(CALLERS):  # a stream's caller may learn of its end before we do
        provider.refused.get(timeout=PATIENCE)


async def _gather(way: tuple[str, str], target: str, provider: WatchedProvider) -> list[Any]:
    async with aio_channel(way[0], target, provider=provider) as channel:
        made = (AIO_CALLS[way[1]](channel, timeout=PATIENCE) for _ in range(CALLERS))
        return await asyncio.gather(*made, return_exceptions=True)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_all_are_always_refused(
    way: tuple[str, str], server: GrpcServer, provider: WatchedProvider, mints: list[Any]
) -> None:
    """One mint per margin, and one request per call, once a first refusal has been repeated."""
    together = threading.Barrier(CALLERS, timeout=PATIENCE)
    server.refuses = lambda value: together.wait() >= 0  # nobody, until all are at the server
    old = provider.grow_stale()
    call_at_once(way, server.target, provider)
    repeated = way[1].startswith("unary_unary")
    sent = [[bearer(old)]] * CALLERS
    assert server.authorization == sent + [[bearer(provider.token())]] * CALLERS * repeated
    assert len(mints) == 2
    assert provider.token() != old
    for seconds, minted in ((0, 2), (2, 2), (OVER_A_MARGIN, 3), (2, 3), (OVER_A_MARGIN, 4)):
        server.calls.clear()
        provider.clock.advance(seconds)
        call_at_once(way, server.target, provider)
        assert server.authorization == [[bearer(provider.token())]] * CALLERS
        assert len(mints) == minted
