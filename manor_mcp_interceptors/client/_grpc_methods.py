"""The callables of a channel that puts a token on every call: one class for each kind."""

# ruff: noqa: FBT001 - the signatures are grpc's

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import grpc

from manor_mcp_interceptors._decision.decision import Decision

from ._grpc_auth import GrpcAuth, SecondTry
from ._grpc_metadata import add_entry, reusable_metadata
from ._grpc_refusal import is_refusal, watch
from ._grpc_retry import RetryingCall
from ._grpc_unavailable import TokenUnavailableRpcError


class _Method:
    """One method of the server: the inner channel's callable, and a token before it.

    `rest` is what follows the metadata: credentials, wait_for_ready, compression.
    """

    _started: Callable[..., Any]
    """Takes a call on its way, the decision, timeout, request, metadata, rest; returns the call."""

    def __init__(self, inner: Any, auth: GrpcAuth) -> None:
        self._inner = inner
        self._auth = auth
        self._leased = auth.leased

    def _wait(
        self, send: Any, request: Any, timeout: float | None, metadata: Any, *rest: Any
    ) -> Any:
        """Make a call and wait for its end."""
        if metadata is not None:
            metadata = reusable_metadata(metadata)
        decision = self._leased(metadata) or self._auth.decision(metadata)
        if decision.metadata_entry is None:
            return send(request, timeout, metadata, *rest)
        deadline = None if timeout is None else monotonic() + timeout
        try:
            return send(request, timeout, add_entry(metadata, decision.metadata_entry), *rest)
        except grpc.RpcError as error:
            if not is_refusal(error):
                raise
            second = self._renew(decision, deadline)
            if second is None:
                raise
        return send(request, second.timeout, second.metadata(metadata), *rest)

    def _start(
        self, send: Any, request: Any, timeout: float | None, metadata: Any, *rest: Any
    ) -> Any:
        """Make a call and do not wait."""
        if metadata is not None:
            metadata = reusable_metadata(metadata)
        try:
            decision = self._leased(metadata) or self._auth.decision(metadata)
        except TokenUnavailableRpcError as failed_call:
            return failed_call
        if decision.metadata_entry is None:
            return send(request, timeout, metadata, *rest)
        call = send(request, timeout, add_entry(metadata, decision.metadata_entry), *rest)
        try:
            return self._started(call, decision, timeout, request, metadata, *rest)
        except Exception:  # another library's object, which is no full call and future
            return call

    def _renew(self, refused: Decision, deadline: float | None) -> SecondTry | None:  # noqa: ARG002
        """Renew a refused token; what streams is not sent again."""
        self._auth.refuse(refused)
        return None


class _Watched(_Method):
    """A method whose calls are not sent again."""

    def __init__(self, inner: Any, auth: GrpcAuth) -> None:
        super().__init__(inner, auth)
        self._started = partial(watch, auth.refuse)


class UnaryUnary(_Method, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
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

    def _renew(self, refused: Decision, deadline: float | None) -> SecondTry | None:
        return self._auth.renew(refused, deadline)

    def _started(self, call: Any, decision: Decision, timeout: float | None, *sent: Any) -> Any:
        deadline = None if timeout is None else monotonic() + timeout
        return RetryingCall(call, self._again, decision, deadline, *sent)

    def _again(
        self, refused: Decision, deadline: float | None, request: Any, metadata: Any, *rest: Any
    ) -> Any:
        try:
            second = self._renew(refused, deadline)
            if second is None:
                return None
            return self._inner.future(request, second.timeout, second.metadata(metadata), *rest)
        except Exception:  # a channel closed meanwhile: the refusal stands
            return None


class StreamUnary(_Watched, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
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


class UnaryStream(_Watched, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
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


class StreamStream(_Watched, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
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
