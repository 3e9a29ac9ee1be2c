"""A `grpc.Channel` that puts a token on every call, at less than the cost of an interceptor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", "grpc_authenticated_channel"):
    import grpc

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_auth import Attempt, GrpcAuth
from ._grpc_refusal import is_refusal, watched, wrapped
from ._grpc_retry import RetryingCall
from ._grpc_unavailable import TokenUnavailableRpcError

__all__ = ["grpc_authenticated_channel"]

Send = Callable[..., Any]
"""Makes a call; takes its timeout and metadata."""


def grpc_authenticated_channel(
    channel: grpc.Channel,
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
) -> grpc.Channel:
    """Return a channel that puts a token on every call made on it, of all four kinds.

        channel = grpc_authenticated_channel(grpc.insecure_channel(target))

    It does what `GrpcAuthInterceptor` does and leaves all else to the given channel. It costs
    less: `grpc.intercept_channel` makes a callable, a closure and call details for each call.
    Streams, and what `with_call` returns, are grpc's own objects. Interceptors may be added to
    either of the two channels.

    Args:
        channel: Sends the calls; closing the returned channel closes it. Calls made on it
            directly carry no token.
        provider: None is the process-wide one.
        audience: The server's `aud`; None is the provider's.
        required: Fail a call for which there is no token, before a byte is sent, with an error
            that is a `TokenUnavailableError` and a `grpc.RpcError`.
    """
    return _Channel(channel, GrpcAuth(provider, audience, required=required))


class _Channel(grpc.Channel):
    def __init__(self, channel: grpc.Channel, auth: GrpcAuth) -> None:
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


class _Method:
    """One method of the server: the callable of the inner channel, with a token on each call."""

    _may_repeat = False
    """Whether a refused call is sent again; a stream's requests may be gone, its responses read."""

    def __init__(self, inner: Any, auth: GrpcAuth) -> None:
        self._inner = inner
        self._auth = auth

    def _start(self, send: Send, timeout: float | None, metadata: Any) -> Any:
        """Begin a call and do not wait for it."""
        try:
            attempt = self._auth.attempt(metadata, timeout)
        except TokenUnavailableRpcError as failed_call:
            return failed_call
        call = send(timeout=attempt.timeout, metadata=attempt.metadata)
        if attempt.token is None:
            return call
        if self._may_repeat:
            return wrapped(call, RetryingCall, partial(self._again, send, attempt))
        return wrapped(call, watched, partial(self._auth.refuse, attempt))

    def _again(self, send: Send, refused: Attempt) -> Any:
        second = self._auth.renew(refused)
        return second and send(timeout=second.timeout, metadata=second.metadata)


class _ManyResponses(_Method):
    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._start(*_prepared(self._inner, *args, **options))


class _OneResponse(_Method):
    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._wait(*_prepared(self._inner, *args, **options))

    def with_call(self, *args: Any, **options: Any) -> Any:
        return self._wait(*_prepared(self._inner.with_call, *args, **options))

    def future(self, *args: Any, **options: Any) -> Any:
        return self._start(*_prepared(self._inner.future, *args, **options))

    def _wait(self, send: Send, timeout: float | None, metadata: Any) -> Any:
        """Make a call and wait for its end."""
        attempt = self._auth.attempt(metadata, timeout)
        try:
            return send(timeout=attempt.timeout, metadata=attempt.metadata)
        except grpc.RpcError as error:
            if attempt.token is None or not is_refusal(error):
                raise
            renew = self._auth.renew if self._may_repeat else self._auth.refuse
            second = renew(attempt)
            if second is None:
                raise
        return send(timeout=second.timeout, metadata=second.metadata)


def _prepared(
    send: Send,
    request: Any = None,
    timeout: float | None = None,
    metadata: Any = None,
    *rest: Any,
    request_iterator: Any = None,
    **options: Any,
) -> tuple[Send, float | None, Any]:
    """Return a call that lacks its timeout and metadata, and these two.

    All callables of grpc have this signature; streams of requests are a `request_iterator`.
    """
    if request_iterator is not None:
        request = request_iterator
    if rest:
        options.update(zip(("credentials", "wait_for_ready", "compression"), rest))  # noqa: B905
    return partial(send, request, **options), timeout, metadata


class _UnaryUnary(_OneResponse, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    _may_repeat = True


class _StreamUnary(_OneResponse, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    pass


class _UnaryStream(_ManyResponses, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    pass


class _StreamStream(_ManyResponses, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    pass
