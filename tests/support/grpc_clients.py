"""Channels with the gRPC adapters, sync and aio behind one interface, and a provider to watch."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
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
ADAPTERS = ("sync", "sync thin", "aio", "aio thin")
"""The interceptors and the thin channels."""
WAYS = [(adapter, name) for adapter in ADAPTERS for mode, name in CALLS if adapter.startswith(mode)]
"""Every way to call each kind through each adapter."""


class WatchedProvider(MCPTokenProvider):
    """A provider on a clock that stands still; a test can wait for the refusals it learns of."""

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
    """Return a channel with the adapter that `mode` names; "bare": with none."""
    if "bare" in mode:
        return bare
    if "thin" in mode:
        return grpc_authenticated_channel(bare, **adapter)
    return grpc.intercept_channel(bare, GrpcAuthInterceptor(**adapter))


def aio_channel(mode: str, target: str, **adapter: Any) -> grpc.aio.Channel:
    """As `sync_channel`, and open it."""
    if "bare" in mode:
        return grpc.aio.insecure_channel(target)
    if "thin" in mode:
        return grpc_aio_authenticated_channel(grpc.aio.insecure_channel(target), **adapter)
    return grpc.aio.insecure_channel(target, interceptors=grpc_aio_interceptors(**adapter))


def call(
    way: tuple[str, str], target: str, *, adapter: dict[str, Any] | None = None, **options: Any
) -> bytes:
    """Make one call through an adapter.

    Args:
        way: One of `WAYS`.
        target: The server's address.
        adapter: The adapter's arguments.
        **options: Options of the call.
    """
    options = {"timeout": TIMEOUT, **options}
    if way[0].startswith("sync"):
        with grpc.insecure_channel(target) as bare:
            return SYNC_CALLS[way[1]](sync_channel(way[0], bare, **adapter or {}), **options)

    async def run() -> bytes:
        async with aio_channel(way[0], target, **adapter or {}) as channel:
            return await AIO_CALLS[way[1]](channel, **options)

    return asyncio.run(run())


def calls(
    way: tuple[str, str],
    target: str,
    times: int,
    *,
    adapter: dict[str, Any],
    after: Callable[[], None] = lambda: None,
    **options: Any,
) -> list[Any]:
    """Make calls through one adapter, one after the other.

    Args:
        way: One of `WAYS`.
        target: The server's address.
        times: How many.
        adapter: The adapter's arguments.
        after: Is called after each call.
        **options: Options of the calls.

    Returns:
        What each came to: the response, the status code, or the type of another error.
    """
    options = {"timeout": TIMEOUT, **options}
    if way[0].startswith("sync"):
        with grpc.insecure_channel(target) as bare:
            channel = sync_channel(way[0], bare, **adapter)
            return [_outcome(way[1], channel, after, options) for _ in range(times)]

    async def run() -> list[Any]:
        async with aio_channel(way[0], target, **adapter) as channel:
            return [await _aio_outcome(way[1], channel, after, options) for _ in range(times)]

    return asyncio.run(run())


def _outcome(
    name: str, channel: grpc.Channel, after: Callable[[], None], options: dict[str, Any]
) -> Any:
    try:
        return SYNC_CALLS[name](channel, **options)
    except Exception as error:
        return error.code() if isinstance(error, grpc.RpcError) else type(error)
    finally:
        after()


async def _aio_outcome(
    name: str, channel: grpc.aio.Channel, after: Callable[[], None], options: dict[str, Any]
) -> Any:
    try:
        return await AIO_CALLS[name](channel, **options)
    except (Exception, asyncio.CancelledError) as error:
        return error.code() if isinstance(error, grpc.RpcError) else type(error)
    finally:
        after()
