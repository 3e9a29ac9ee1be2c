"""A `grpc.aio.Channel` that puts a token on every call, at less than the cost of interceptors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", "grpc_aio_authenticated_channel"):
    import grpc
    from grpc import aio

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_aio_call import EndedCall, retrying
from ._grpc_auth import Attempt, GrpcAuth
from ._grpc_refusal import aio_watched, wrapped
from ._grpc_unavailable import TokenUnavailableRpcError

__all__ = ["grpc_aio_authenticated_channel"]


def grpc_aio_authenticated_channel(
    channel: aio.Channel,
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
) -> aio.Channel:
    """Return a channel that puts a token on every call made on it, of all four kinds.

        channel = grpc_aio_authenticated_channel(grpc.aio.insecure_channel(target))

    It does what `grpc_aio_interceptors` do and leaves all else to the given channel. It costs
    less: with interceptors, grpc.aio makes a task and a second call object for each call. Streams
    are grpc's own calls.

    The decision is made as `get_token()` makes it: a call waits at most 10 ms for a slow feature
    flag, and the last known answer is used then. Interceptors wait for its first answer.

    If the server refuses a stream while requests are being written, grpc.aio may report INTERNAL:
    the refusal is then not known, and no token is renewed.

    Args:
        channel: Sends the calls; closing the returned channel closes it. Calls made on it
            directly carry no token.
        provider: None is the process-wide one.
        audience: The server's `aud`; None is the provider's.
        required: Fail a call for which there is no token, before a byte is sent, with an error
            that is a `TokenUnavailableError` and a `grpc.aio.AioRpcError`.
    """
    return _Channel(channel, GrpcAuth(provider, audience, required=required))


class _Channel(aio.Channel):
    def __init__(self, channel: aio.Channel, auth: GrpcAuth) -> None:
        self._channel = channel
        self._auth = auth

    # The arguments are passed on unchanged: not every channel accepts `_registered_method`.
    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _UnaryUnary(self._channel.unary_unary(*args, **kwargs), self._auth)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _UnaryStream(self._channel.unary_stream(*args, **kwargs), self._auth)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _StreamUnary(self._channel.stream_unary(*args, **kwargs), self._auth)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _StreamStream(self._channel.stream_stream(*args, **kwargs), self._auth)

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


class _Method:
    """One method of the server: the callable of the inner channel, with a token on each call."""

    def __init__(self, inner: Any, auth: GrpcAuth) -> None:
        self._inner = inner
        self._auth = auth

    def __call__(
        self,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        request_iterator: Any = None,
        **options: Any,
    ) -> Any:
        sent = request if request_iterator is None else request_iterator
        send = partial(self._inner, sent, **options)
        try:
            attempt = self._auth.attempt(metadata, timeout)
        except TokenUnavailableRpcError as error:
            return EndedCall(error)
        call = send(timeout=attempt.timeout, metadata=attempt.metadata)
        return call if attempt.token is None else self._watched(call, send, attempt)

    def _watched(self, call: Any, send: Callable[..., Any], attempt: Attempt) -> Any:  # noqa: ARG002
        """Have a refused token renewed; what streams is not sent again."""
        return wrapped(call, aio_watched, partial(self._auth.refuse, attempt))


class _UnaryUnary(_Method, aio.UnaryUnaryMultiCallable):  # type: ignore[misc, type-arg]
    def _watched(self, call: Any, send: Callable[..., Any], attempt: Attempt) -> Any:
        return retrying(call, partial(self._again, send, attempt))

    async def _again(self, send: Callable[..., Any], refused: Attempt) -> Any:
        second = await self._auth.renew_async(refused)
        return second and send(timeout=second.timeout, metadata=second.metadata)


class _UnaryStream(_Method, aio.UnaryStreamMultiCallable):  # type: ignore[misc, type-arg]
    pass


class _StreamUnary(_Method, aio.StreamUnaryMultiCallable):  # type: ignore[misc, type-arg]
    pass


class _StreamStream(_Method, aio.StreamStreamMultiCallable):  # type: ignore[misc, type-arg]
    pass
