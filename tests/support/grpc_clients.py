"""Channels with our interceptors, sync and aio behind one face, and providers to watch."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Sequence
from typing import Any

import grpc

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    MCPTokenProvider,
    Settings,
    grpc_aio_interceptors,
)
from manor_mcp_interceptors.client.grpc_channel import grpc_authenticated_channel
from tests.support import SECRET, FakeClock, StaticGate
from tests.support.grpc_server import AIO_CALLS, SYNC_CALLS

TIMEOUT = 10
WAYS = [*(("sync", name) for name in SYNC_CALLS), *(("aio", name) for name in AIO_CALLS)]
"""Every way to call each kind, on both channels."""
THIN_WAYS = [("thin", name) for name in SYNC_CALLS]
"""The same through `grpc_authenticated_channel`."""


class WatchedProvider(MCPTokenProvider):
    """A provider on a clock that stands still, whose refusals a test can wait for."""

    def __init__(self, *, on: bool = True, clock: FakeClock | None = None, **settings: Any) -> None:
        self.clock = clock or FakeClock()
        known = Settings(**{"secret": SECRET, **settings})
        super().__init__(known, gate=StaticGate(on=on), clock=self.clock)
        self.refused: queue.SimpleQueue[str] = queue.SimpleQueue()

    def invalidate(self, token: str) -> None:
        super().invalidate(token)
        self.refused.put(token)

    def grow_stale(self) -> str:
        """Return the current token, now old enough to be replaced when it is refused."""
        token = self.token()
        assert token is not None
        self.clock.advance(60)
        return token


def bearer(token: str | None) -> str:
    return f"Bearer {token}"


def call(
    way: tuple[str, str],
    target: str,
    *,
    before: Sequence[Any] = (),
    after: Sequence[Any] = (),
    adapter: dict[str, Any] | None = None,
    **options: Any,
) -> bytes:
    """Make one call through our interceptors.

    Args:
        way: One of `WAYS` or `THIN_WAYS`.
        target: The server's address.
        before: Interceptors in front of ours.
        after: Interceptors behind ours.
        adapter: Arguments of our interceptors.
        **options: Options of the call.
    """
    options = {"timeout": TIMEOUT, **options}
    if way[0] == "thin":
        with grpc.insecure_channel(target) as bare:
            inner = grpc.intercept_channel(bare, *after)
            thin = grpc_authenticated_channel(inner, **adapter or {})
            return SYNC_CALLS[way[1]](grpc.intercept_channel(thin, *before), **options)
    if way[0] == "sync":
        ours = GrpcAuthInterceptor(**adapter or {})
        with grpc.insecure_channel(target) as bare:
            channel = grpc.intercept_channel(bare, *before, ours, *after)
            return SYNC_CALLS[way[1]](channel, **options)

    async def run() -> bytes:
        interceptors = [*before, *grpc_aio_interceptors(**adapter or {}), *after]
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
            return await AIO_CALLS[way[1]](channel, **options)

    return asyncio.run(run())
