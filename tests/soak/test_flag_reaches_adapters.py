"""A flag that is turned off, as every adapter's server sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from openfeature import api

from manor_mcp_interceptors import MCPTokenProvider, OpenFeatureGate
from tests.soak.callers import ASYNC, SYNC, Once
from tests.soak.mounted import Rotation
from tests.soak.run import _signer, _verifiers
from tests.soak.servers import Servers, start_servers
from tests.support.eventually import eventually
from tests.support.openfeature_provider import ToldProvider

pytestmark = pytest.mark.slow


class NoLeaseEnds:
    """Today's time of day, and a monotonic clock that stands still."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return 1_000.0


@pytest.fixture(scope="module")
def rotation(tmp_path_factory: pytest.TempPathFactory) -> Rotation:
    folder: Path = tmp_path_factory.mktemp("mounted")
    return Rotation(folder)


@pytest.fixture(scope="module")
def servers(rotation: Rotation) -> Iterator[Servers]:
    """Start the strict servers once."""
    with start_servers(_verifiers(rotation)) as running:
        yield running


@pytest.fixture
def told(isolated: None, rotation: Rotation) -> Iterator[ToldProvider]:
    """Turn the flag on, for a provider whose leases only an event can end."""
    provider = ToldProvider()
    api.set_provider_and_wait(provider)
    settings, gate = _signer(rotation), OpenFeatureGate()
    MCPTokenProvider.configure(settings=settings, gate=gate, clock=NoLeaseEnds())
    yield provider
    api.shutdown()


def refused(once: Once) -> bool:
    try:
        once()
    except Exception:
        return True
    return False


def bare_calls(servers: Servers) -> int:
    servers.unauthenticated()  # the servers' notes start anew when they are read
    return servers.unauthenticated()


@pytest.mark.parametrize("name", SYNC)
def test_an_event_turns_an_adapter_off_at_once(
    servers: Servers, told: ToldProvider, name: str
) -> None:
    """The next calls go out bare, and the strict server refuses them."""
    before = bare_calls(servers)
    with ExitStack() as stack:
        once = SYNC[name](stack, servers)
        assert eventually(lambda: MCPTokenProvider.get_token() is not None)
        once()
        told.turn(on=False)
        assert eventually(lambda: refused(once))
    assert servers.unauthenticated() > before


@pytest.mark.parametrize("name", ASYNC)
def test_an_event_turns_an_async_adapter_off_at_once(
    servers: Servers, told: ToldProvider, name: str
) -> None:
    """As above, on an event loop."""

    async def main() -> bool:
        async with AsyncExitStack() as stack:
            once = await ASYNC[name](stack, servers)
            await once()
            told.turn(on=False)
            for _ in range(1_000):
                try:
                    await asyncio.wait_for(once(), 10)
                except Exception:
                    return True
                await asyncio.sleep(0.01)
            return False

    before = bare_calls(servers)
    assert eventually(lambda: MCPTokenProvider.get_token() is not None)
    assert asyncio.run(main())
    assert servers.unauthenticated() > before
