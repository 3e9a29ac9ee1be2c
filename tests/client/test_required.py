"""``required=True`` at every adapter: without a token no request, and an error with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    Settings,
    TokenUnavailableError,
    grpc_call_credentials,
)
from tests.support import SECRET, StaticGate
from tests.support.grpc_clients import ADAPTERS, TIMEOUT
from tests.support.grpc_clients import call as call_grpc
from tests.support.grpc_server import AIO_CALLS, KINDS, SYNC_CALLS, GrpcServer
from tests.support.http_clients import CLIENTS, make_auth
from tests.support.http_clients import call as call_http
from tests.support.http_server import HttpServer, ok

LOCAL = grpc.LocalConnectionType.LOCAL_TCP


class Peers:
    """A server for each kind of adapter, and what all of them were sent."""

    def __init__(self, http: HttpServer, plain: GrpcServer, secure: GrpcServer) -> None:
        self.http = http
        self.plain = plain
        self.secure = secure

    def seen(self) -> int:
        return len(self.http.seen) + len(self.plain.calls) + len(self.secure.calls)

    def forget(self) -> None:
        self.http.start_over(ok)
        self.plain.calls.clear()
        self.secure.calls.clear()


@pytest.fixture(scope="module")
def running() -> Iterator[Peers]:
    credentials = grpc.local_server_credentials(LOCAL)
    with HttpServer() as http, GrpcServer() as plain, GrpcServer(credentials) as secure:
        yield Peers(http, plain, secure)


@pytest.fixture
def peers(running: Peers) -> Peers:
    running.forget()
    return running


Adapter = dict[str, Any]
"""The arguments that every adapter takes."""


def by_http(client: str, peers: Peers, adapter: Adapter) -> None:
    call_http(client, make_auth(client, **adapter), "POST", peers.http.url, data={"a": "1"})


def by_channel(way: tuple[str, str], peers: Peers, adapter: Adapter) -> None:
    call_grpc(way, peers.plain.target, adapter=adapter)


def by_call_credentials(way: tuple[str, str], peers: Peers, adapter: Adapter) -> None:
    credentials = grpc.composite_channel_credentials(
        grpc.local_channel_credentials(LOCAL), grpc_call_credentials(**adapter)
    )
    if way[0] == "sync":
        with grpc.secure_channel(peers.secure.target, credentials) as channel:
            SYNC_CALLS[way[1]](channel, timeout=TIMEOUT)
        return

    async def run() -> None:
        async with grpc.aio.secure_channel(peers.secure.target, credentials) as channel:
            await AIO_CALLS[way[1]](channel, timeout=TIMEOUT)

    asyncio.run(run())


Call = Callable[[Peers, Adapter], None]
WITH_CREDENTIALS: dict[str, Call] = {
    f"gRPC credentials {mode} {kind}": partial(by_call_credentials, (mode, kind))
    for mode in ("sync", "aio")
    for kind in KINDS
}
CALLS: dict[str, Call] = {
    **{client: partial(by_http, client) for client in CLIENTS},
    **{
        f"gRPC {adapter} {kind}": partial(by_channel, (adapter, kind))
        for adapter in ADAPTERS
        for kind in KINDS
    },
    **WITH_CREDENTIALS,
}
every_adapter = pytest.mark.parametrize("name", CALLS)


def fail_to_sign(*_: object) -> None:
    raise RuntimeError


@every_adapter
@pytest.mark.parametrize(
    ("outcome", "settings"),
    [
        (Outcome.FLAG_OFF, {"secret": SECRET}),
        (Outcome.NOT_CONFIGURED, {}),
        (Outcome.INVALID_CONFIG, {"secret_file": "no/such/file"}),
        (Outcome.SIGNING_FAILED, {"secret": SECRET}),
    ],
)
def test_no_token_no_request(
    name: str,
    outcome: Outcome,
    settings: dict[str, Any],
    peers: Peers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the reason, no server receives the call, and its error names the outcome."""
    if outcome is Outcome.SIGNING_FAILED:
        monkeypatch.setattr("manor_mcp_interceptors._decision.token_cache.mint", fail_to_sign)
    gate = StaticGate(on=outcome is not Outcome.FLAG_OFF)
    adapter = {"provider": MCPTokenProvider(Settings(**settings), gate=gate), "required": True}
    if name in WITH_CREDENTIALS:  # gRPC replaces the error
        with pytest.raises(grpc.RpcError, match=f"{outcome}: this call requires") as failed:
            CALLS[name](peers, adapter)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    else:
        with pytest.raises(TokenUnavailableError) as caught:
            CALLS[name](peers, adapter)
        assert caught.value.outcome is outcome
        assert isinstance(caught.value, grpc.RpcError) is name.startswith("gRPC")
    assert peers.seen() == 0


@every_adapter
def test_with_a_token_it_changes_nothing(name: str, peers: Peers) -> None:
    """The call is sent, once."""
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=StaticGate())
    CALLS[name](peers, {"provider": provider, "required": True})
    assert peers.seen() == 1
