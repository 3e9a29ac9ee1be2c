"""Channels with our adapters, sync and aio behind one face, and providers to watch."""

from __future__ import annotations

import asyncio
import queue
from contextlib import suppress
from typing import Any

import grpc

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    MCPTokenProvider,
    Settings,
    grpc_aio_authenticated_channel,
    grpc_aio_interceptors,
    grpc_authenticated_channel,
)
from tests.support import SECRET, FakeClock, StaticGate
from tests.support.grpc_server import AIO_CALLS, SYNC_CALLS

TIMEOUT = 10
CALLS = [*(("sync", name) for name in SYNC_CALLS), *(("aio", name) for name in AIO_CALLS)]
"""Every way to call each kind, on both channels."""
WAYS = [
    (f"{mode}{adapter}", name) for adapter in ("", " thin", " thin leased") for mode, name in CALLS
]
"""The same through each of our adapters: interceptors, and the thin channels.

A thin channel looks by itself at a decision whose lease runs, and asks for one where it has ended:
"leased" makes sure of the first.
"""


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


def sync_channel(mode: str, bare: grpc.Channel, **adapter: Any) -> grpc.Channel:
    """Put our adapter before a channel: the interceptor, or where `mode` says so the thin one."""
    if "thin" in mode:
        return grpc_authenticated_channel(bare, **adapter)
    return grpc.intercept_channel(bare, GrpcAuthInterceptor(**adapter))


def aio_channel(mode: str, target: str, **adapter: Any) -> grpc.aio.Channel:
    """Open an aio channel with our adapter."""
    if "thin" in mode:
        return grpc_aio_authenticated_channel(grpc.aio.insecure_channel(target), **adapter)
    return grpc.aio.insecure_channel(target, interceptors=grpc_aio_interceptors(**adapter))


def lease(provider: MCPTokenProvider | None = None, audience: str | None = None, **_: Any) -> None:
    """Have the provider decide, so that the next call finds a lease that runs."""
    with suppress(RuntimeError):  # of a provider that is broken on purpose
        source = provider or MCPTokenProvider.get_instance(audience)
        (source.for_audience(audience) if provider and audience else source).decision()


def call(
    way: tuple[str, str], target: str, *, adapter: dict[str, Any] | None = None, **options: Any
) -> bytes:
    """Make one call through an adapter of ours.

    Args:
        way: One of `WAYS`.
        target: The server's address.
        adapter: The adapter's arguments.
        **options: Options of the call.
    """
    options = {"timeout": TIMEOUT, **options}
    if "leased" in way[0]:
        lease(**adapter or {})
    if way[0].startswith("sync"):
        with grpc.insecure_channel(target) as bare:
            return SYNC_CALLS[way[1]](sync_channel(way[0], bare, **adapter or {}), **options)

    async def run() -> bytes:
        async with aio_channel(way[0], target, **adapter or {}) as channel:
            return await AIO_CALLS[way[1]](channel, **options)

    return asyncio.run(run())
