"""A `grpc.Channel` that puts a token on every call, at less than an interceptor's cost."""

from __future__ import annotations

from typing import Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", "grpc_authenticated_channel"):
    import grpc

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_auth import GrpcAuth
from ._grpc_methods import StreamStream, StreamUnary, UnaryStream, UnaryUnary

__all__ = ["grpc_authenticated_channel"]


def grpc_authenticated_channel(
    channel: grpc.Channel,
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
) -> grpc.Channel:
    """Return a channel that puts a token on every call made through it, of all four kinds.

        channel = grpc_authenticated_channel(grpc.insecure_channel(target))

    It does what `GrpcAuthInterceptor` does, and all else is the given channel's own. It is the
    cheaper of the two: `grpc.intercept_channel` makes a callable, a closure and call details anew
    for each call, whatever its interceptor does. Streams, and what `with_call` returns, are
    grpc's own objects. Interceptors may stand on either side of it.

    Args:
        channel: Where the calls go; closing the returned channel closes it. Calls made on it
            directly carry no token.
        provider: None is the process-wide one, looked up at each call.
        audience: The server's `aud`; None is the provider's.
        required: Fail a call for which there is no token, before a byte is sent, with an error
            that is a `TokenUnavailableError` and a `grpc.RpcError`.
    """
    return _Channel(channel, GrpcAuth(provider, audience, required=required))


class _Channel(grpc.Channel):
    def __init__(self, channel: grpc.Channel, auth: GrpcAuth) -> None:
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

    def subscribe(self, *args: Any, **kwargs: Any) -> None:
        self._channel.subscribe(*args, **kwargs)

    def unsubscribe(self, callback: Any) -> None:
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> _Channel:  # noqa: PYI034 - Self is not in 3.10
        self._channel.__enter__()
        return self

    def __exit__(self, *exc: Any) -> Any:  # noqa: PYI036 - passed on
        return self._channel.__exit__(*exc)
