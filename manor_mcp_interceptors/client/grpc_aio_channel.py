"""A `grpc.aio.Channel` that puts a token on every call, at less than interceptors' cost."""

from __future__ import annotations

from typing import Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", "grpc_aio_authenticated_channel"):
    import grpc
    from grpc import aio

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_aio_methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from ._grpc_auth import GrpcAuth

__all__ = ["grpc_aio_authenticated_channel"]


def grpc_aio_authenticated_channel(
    channel: aio.Channel,
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
) -> aio.Channel:
    """Return a channel that puts a token on every call made through it, of all four kinds.

        channel = grpc_aio_authenticated_channel(grpc.aio.insecure_channel(target))

    It does what `grpc_aio_interceptors` do, and all else is the given channel's own. It is the
    cheaper of the two: with interceptors, grpc.aio makes a task and a second call object for each
    call. Here, streams are grpc's own calls; only while a slow flag is asked does a call of ours
    stand for the one to come. The event loop is never held up.

    A stream that the server refuses while requests are being written may be INTERNAL to grpc.aio,
    which then does not tell anyone of the refusal: no token is renewed.

    Args:
        channel: Where the calls go; closing the returned channel closes it. Calls made on it
            directly carry no token.
        provider: None is the process-wide one, looked up at each call.
        audience: The server's `aud`; None is the provider's.
        required: Fail a call for which there is no token, before a byte is sent, with an error
            that is a `TokenUnavailableError` and a `grpc.aio.AioRpcError`.
    """
    return _Channel(channel, GrpcAuth(provider, audience, required=required))


class _Channel(aio.Channel):
    def __init__(self, channel: aio.Channel, auth: GrpcAuth) -> None:
        self._channel = channel
        self._auth = auth

    # What a stub passes goes on as it is: not every channel knows `_registered_method`.
    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return UnaryUnary(self._channel.unary_unary(*args, **kwargs), self._auth)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return UnaryStream(self._channel.unary_stream(*args, **kwargs), self._auth)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return StreamUnary(self._channel.stream_unary(*args, **kwargs), self._auth)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return StreamStream(self._channel.stream_stream(*args, **kwargs), self._auth)

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - grpc's
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> _Channel:  # noqa: PYI034 - Self is not in 3.10
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:  # noqa: PYI036 - passed on
        return await self._channel.__aexit__(*exc)
