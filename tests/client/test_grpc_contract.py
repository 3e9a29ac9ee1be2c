from __future__ import annotations

import logging
from typing import Any

import grpc
import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    Settings,
    TokenUnavailableError,
    get_token,
)
from tests.support import SECRET, StaticGate
from tests.support.grpc_clients import THIN_WAYS, WAYS, WatchedProvider, bearer, call
from tests.support.grpc_server import GrpcServer, expected

Way = tuple[str, str]

every_way = pytest.mark.parametrize("way", [*WAYS, *THIN_WAYS], ids="-".join)
METADATA = [
    None,
    [("x-caller", "kept")],
    (("x-caller", "kept"), ("x-bin", b"\x00\xff")),
    grpc.aio.Metadata(("x-caller", "kept"), ("x-caller", "twice")),
    [],
    (),
]


def frozen(metadata: Any) -> Any:
    return None if metadata is None else (type(metadata), list(metadata))


@every_way
def test_a_token_goes_out(way: Way, server: GrpcServer, env_on: None) -> None:
    """With the flag on, the server receives exactly one token, and the answer comes back."""
    assert call(way, server.target) == expected(way[1])
    assert server.authorization == [[bearer(get_token())]]


@every_way
def test_no_token_with_the_flag_off(way: Way, server: GrpcServer) -> None:
    """With the flag off, the call goes out without one."""
    assert call(way, server.target) == expected(way[1])
    assert server.authorization == [[]]


@every_way
@pytest.mark.parametrize("metadata", METADATA, ids=lambda m: type(m).__name__ + str(bool(m)))
def test_metadata_is_added_to(
    way: Way, metadata: Any, server: GrpcServer, provider: WatchedProvider
) -> None:
    """All that the caller sent arrives beside the token, and their object is as it was."""
    before = frozen(metadata)
    call(way, server.target, adapter={"provider": provider}, metadata=metadata)
    assert frozen(metadata) == before
    assert server.authorization == [[bearer(provider.token())]]
    sent = server.calls[0].metadata
    assert [entry for entry in sent if entry[0].startswith("x-")] == list(metadata or ())


@every_way
def test_a_generator_of_metadata(way: Way, server: GrpcServer, provider: WatchedProvider) -> None:
    """Metadata that can be read once arrives, with the token, and with the flag off."""
    for source in (provider, WatchedProvider(on=False)):
        metadata = (entry for entry in [("x-caller", "kept")])
        call(way, server.target, adapter={"provider": source}, metadata=metadata)
        assert ("x-caller", "kept") in server.calls[-1].metadata
    assert server.authorization == [[bearer(provider.token())], []]


@every_way
def test_the_callers_own_wins(way: Way, server: GrpcServer, provider: WatchedProvider) -> None:
    """The caller's own authorization is sent alone; when refused, our token has no part in it."""
    provider.grow_stale()
    adapter = {"provider": provider, "required": True}
    metadata = (("authorization", "Basic own"),)
    call(way, server.target, adapter=adapter, metadata=metadata)
    server.refuses = lambda value: True
    with pytest.raises(grpc.RpcError) as caught:
        call(way, server.target, adapter=adapter, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert server.authorization == [["Basic own"]] * 2
    assert provider.refused.empty()


@every_way
def test_another_audience(way: Way, server: GrpcServer, provider: WatchedProvider) -> None:
    """The adapter's audience decides which token goes out."""
    call(way, server.target, adapter={"provider": provider, "audience": "elsewhere"})
    assert server.authorization == [[bearer(provider.for_audience("elsewhere").token())]]
    assert server.authorization != [[bearer(provider.token())]]


@every_way
def test_required_fails_before_a_byte_is_sent(way: Way, server: GrpcServer) -> None:
    """Without a token, a required one is a failure that is ours and gRPC's, with the outcome."""
    adapter = {"provider": WatchedProvider(on=False), "required": True}
    with pytest.raises(TokenUnavailableError) as caught:
        call(way, server.target, adapter=adapter)
    assert caught.value.outcome is Outcome.FLAG_OFF
    assert isinstance(caught.value, grpc.RpcError)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "flag" in str(caught.value.details())
    assert server.calls == []


class BrokenProvider(WatchedProvider):
    """A provider with a bug in it."""

    def decision(self) -> Any:
        raise RuntimeError("holds a secret: " + SECRET)

    async def decision_async(self) -> Any:
        return self.decision()


@every_way
def test_an_error_of_ours_breaks_no_call(
    way: Way, server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The call goes out as the caller made it, and one log line says what kind of error it was."""
    adapter = {"provider": BrokenProvider()}
    with caplog.at_level(logging.WARNING):
        assert call(way, server.target, adapter=adapter) == expected(way[1])
    assert server.authorization == [[]]
    ours = [r.getMessage() for r in caplog.records if r.name == "manor_mcp_interceptors"]
    assert len(ours) == 1
    assert "RuntimeError" in ours[0]
    assert SECRET not in caplog.text


@every_way
def test_an_error_of_ours_is_no_token_where_one_is_required(way: Way, server: GrpcServer) -> None:
    """Required means required: not even a bug lets the call out without a token."""
    with pytest.raises(TokenUnavailableError) as caught:
        call(way, server.target, adapter={"provider": BrokenProvider(), "required": True})
    assert SECRET not in str(caught.value)
    assert server.calls == []


@every_way
def test_configure_reaches_adapters_that_exist(way: Way, server: GrpcServer) -> None:
    """The process-wide provider is looked up at each call."""
    gate = StaticGate(on=False)
    MCPTokenProvider.configure(settings=Settings(secret=SECRET, recheck_seconds=0), gate=gate)
    call(way, server.target)
    gate.on = True
    call(way, server.target)
    assert server.authorization == [[], [bearer(get_token())]]


@every_way
def test_a_refusal_renews_the_token(
    way: Way, server: GrpcServer, provider: WatchedProvider
) -> None:
    """UNAUTHENTICATED renews the token; unary-unary is made again, what streams is not replayed."""
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    if way[1].startswith("unary_unary"):
        assert call(way, server.target, adapter={"provider": provider}) == expected(way[1])
    else:
        with pytest.raises(grpc.RpcError) as caught:
            call(way, server.target, adapter={"provider": provider})
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert provider.refused.get(timeout=5) == old
        assert call(way, server.target, adapter={"provider": provider}) == expected(way[1])
    assert server.authorization == [[bearer(old)], [bearer(provider.token())]]
    assert provider.token() != old


@every_way
def test_no_second_try_with_the_same_token(
    way: Way, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A token too young to be replaced is sent once: the refusal stands."""
    server.refuses = lambda value: True
    with pytest.raises(grpc.RpcError) as caught:
        call(way, server.target, adapter={"provider": provider})
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "no"
    assert server.authorization == [[bearer(provider.token())]]


@every_way
def test_at_most_one_second_try(way: Way, server: GrpcServer, provider: WatchedProvider) -> None:
    """A server that refuses everything sees a unary-unary call twice at most, and once after."""
    provider.grow_stale()
    server.refuses = lambda value: True
    tries = 2 if way[1].startswith("unary_unary") else 1
    for _ in range(3):
        with pytest.raises(grpc.RpcError):
            call(way, server.target, adapter={"provider": provider})
        provider.refused.get(timeout=5)
    assert len(server.calls) == tries + 2
