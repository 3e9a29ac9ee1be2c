"""A gRPC channel that puts a token on every call: the interceptor's work without its cost."""

# ruff: noqa: FBT001, FBT002 - the signatures are grpc's

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any, NamedTuple

try:
    import grpc
except ModuleNotFoundError as exc:
    if exc.name != "grpc":
        raise
    msg = "grpc_authenticated_channel needs grpcio: pip install 'manor-mcp-interceptors[grpc]'"
    raise ModuleNotFoundError(msg, name="grpc") from exc

from manor_mcp_interceptors.outcomes import Decision
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_auth import Attempt, GrpcAuth, TokenUnavailableRpcError
from ._grpc_metadata import add_entry, has_authorization, reusable_metadata
from ._grpc_retry import RetryingCall, Tries, is_refusal, watch

__all__ = ["grpc_authenticated_channel"]


def grpc_authenticated_channel(
    channel: grpc.Channel,
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
) -> grpc.Channel:
    """Return a channel that puts a token on every call of `channel`, of all four kinds.

        channel = grpc_authenticated_channel(grpc.insecure_channel(target))

    It does what `GrpcAuthInterceptor` does, and everything else is the inner channel's own.
    `grpc.intercept_channel` builds a new callable and new call details for each call, whatever
    its interceptor does; this builds nothing. Either may wrap the other.

    Args:
        channel: Where the calls go; closing the returned channel closes it.
        provider: None is the process-wide one, looked up at each call.
        audience: The server's `aud`; None is the provider's.
        required: Fail a call for which there is no token, before a byte is sent, with an error
            that is a `TokenUnavailableError` and a `grpc.RpcError`.
    """
    return _Channel(channel, GrpcAuth(provider, audience, required=required))


class _Options(NamedTuple):
    """A call's options, in the order in which every call takes them."""

    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any

    def __repr__(self) -> str:  # a traceback that prints locals prints no token
        return "<options of a call>"


class _Channel(grpc.Channel):
    def __init__(self, channel: grpc.Channel, auth: GrpcAuth) -> None:
        self._channel = channel
        self._auth = auth

    # What a stub passes goes on as it is: not every channel knows `_registered_method`.
    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _UnaryUnary(self._channel.unary_unary(*args, **kwargs), self._auth)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _UnaryStream(self._channel.unary_stream(*args, **kwargs), self._auth)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _StreamUnary(self._channel.stream_unary(*args, **kwargs), self._auth)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _StreamStream(self._channel.stream_stream(*args, **kwargs), self._auth)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> _Channel:  # noqa: PYI034 - no subclasses
        self._channel.__enter__()
        return self

    def __exit__(self, *exc: Any) -> Any:  # noqa: PYI036 - passed on
        return self._channel.__exit__(*exc)


class _Method:
    """One method of the server: the inner channel's callable, and the auth before it.

    Each of the two ways to call is written out: a Python function costs a call about 1 % here.
    """

    def __init__(self, inner: Any, auth: GrpcAuth) -> None:
        self._inner = inner
        self._auth = auth
        self._decision = auth.decision

    def _wait(
        self, invoke: Any, request: Any, timeout: float | None, metadata: Any, *rest: Any
    ) -> Any:
        """Make a call and wait for its end."""
        if metadata is not None:
            metadata = reusable_metadata(metadata)
        try:
            own = metadata is not None and has_authorization(metadata)
            decision = None if own else self._decision()
        except Exception as error:
            self._auth._go_without(error)
            decision = None
        if decision is None or decision.metadata_entry is None:
            return invoke(request, timeout, metadata, *rest)
        started = monotonic()
        try:
            return invoke(request, timeout, add_entry(metadata, decision.metadata_entry), *rest)
        except grpc.RpcError as error:
            if not is_refusal(error):
                raise
            again = self._renew(decision, started, timeout, metadata, *rest)
            if again is None:
                raise
        return invoke(request, *again)

    def _start(
        self, invoke: Any, request: Any, timeout: float | None, metadata: Any, *rest: Any
    ) -> Any:
        """Make a call and do not wait."""
        if metadata is not None:
            metadata = reusable_metadata(metadata)
        try:
            own = metadata is not None and has_authorization(metadata)
            decision = None if own else self._decision()
        except Exception as error:
            try:
                self._auth._go_without(error)
            except TokenUnavailableRpcError as failed_call:
                return failed_call
            decision = None
        if decision is None or decision.metadata_entry is None:
            return invoke(request, timeout, metadata, *rest)
        started = monotonic()
        call = invoke(request, timeout, add_entry(metadata, decision.metadata_entry), *rest)
        return self._started(call, request, decision, started, timeout, metadata, *rest)

    def _started(self, call: Any, request: Any, decision: Decision, *options: Any) -> Any:  # noqa: ARG002
        """Watch a call; what streams is not sent again."""
        watch(call, partial(self._auth.refuse, decision.token or ""))
        return call

    def _renew(self, decision: Decision, started: float, *options: Any) -> Any:  # noqa: ARG002
        """Renew a refused token; return the options of a second try, or None."""
        self._auth.refuse(decision.token or "")


class _UnaryUnary(_Method, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._wait(
            self._inner, request, timeout, metadata, credentials, wait_for_ready, compression
        )

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._wait(
            self._inner.with_call,
            request,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._start(
            self._inner.future, request, timeout, metadata, credentials, wait_for_ready, compression
        )

    def _started(self, call: Any, request: Any, decision: Decision, *options: Any) -> Any:
        return RetryingCall(Tries(call, partial(self._again, request, decision, *options)))

    def _again(self, request: Any, decision: Decision, *options: Any) -> Any:
        try:
            again = self._renew(decision, *options)
            return None if again is None else self._inner.future(request, *again)
        except Exception:  # a channel closed meanwhile: the refusal stands
            return None

    def _renew(self, decision: Decision, started: float, *options: Any) -> Any:
        first = _Options(*options)
        if first.timeout is not None:
            first = first._replace(timeout=started + first.timeout - monotonic())
        attempt = Attempt(first, decision.token or "", decision.metadata_entry or ("", ""))
        return self._auth.renew(attempt)


class _StreamUnary(_Method, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._wait(
            self._inner,
            request_iterator,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )

    def with_call(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._wait(
            self._inner.with_call,
            request_iterator,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )

    def future(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._start(
            self._inner.future,
            request_iterator,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )


class _UnaryStream(_Method, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._start(
            self._inner, request, timeout, metadata, credentials, wait_for_ready, compression
        )


class _StreamStream(_Method, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    def __call__(
        self,
        request_iterator: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._start(
            self._inner,
            request_iterator,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
        )
