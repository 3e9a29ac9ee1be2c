"""The callables of an aio channel that puts a token on every call: one class for each kind."""

# ruff: noqa: FBT001 - the signatures are grpc's

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from grpc import aio

from manor_mcp_interceptors._decision.decision import Decision

from ._grpc_aio_call import (
    PendingCall,
    StreamStreamCall,
    StreamUnaryCall,
    UnaryStreamCall,
    UnaryUnaryCall,
)
from ._grpc_aio_ended import EndedCall
from ._grpc_auth import GrpcAuth
from ._grpc_metadata import add_entry, reusable_metadata
from ._grpc_refusal import UNAUTHENTICATED, code_of_ended
from ._grpc_unavailable import TokenUnavailableRpcError

if TYPE_CHECKING:  # generic to type checkers alone
    _UnaryUnaryMultiCallable = aio.UnaryUnaryMultiCallable[Any, Any]
    _UnaryStreamMultiCallable = aio.UnaryStreamMultiCallable[Any, Any]
    _StreamUnaryMultiCallable = aio.StreamUnaryMultiCallable[Any, Any]
    _StreamStreamMultiCallable = aio.StreamStreamMultiCallable[Any, Any]
else:
    _UnaryUnaryMultiCallable = aio.UnaryUnaryMultiCallable
    _UnaryStreamMultiCallable = aio.UnaryStreamMultiCallable
    _StreamUnaryMultiCallable = aio.StreamUnaryMultiCallable
    _StreamStreamMultiCallable = aio.StreamStreamMultiCallable


class _Method:
    """One method of the server: the inner channel's callable, and a token before it.

    `rest` is what follows the metadata: credentials, wait_for_ready, compression.
    """

    pending: type[PendingCall]
    """What stands for a call while it is not known yet what it carries."""

    def __init__(self, inner: Any, auth: GrpcAuth) -> None:
        self._inner = inner
        self._auth = auth
        self._leased = auth.leased

    def _send(
        self,
        decision: Decision | None,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: Any,
    ) -> Any:
        """Begin a call, or return one that begins once it is known what it is to carry."""
        if decision is None:
            if metadata is not None:
                metadata = reusable_metadata(metadata)
            decision = self._leased(metadata)
            if decision is None:
                rest = credentials, wait_for_ready, compression
                return self._ask_first(request, timeout, metadata, *rest)
        call = self._inner(
            request,
            timeout=timeout,
            metadata=metadata
            if decision.metadata_entry is None
            else add_entry(metadata, decision.metadata_entry),
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )
        if decision.metadata_entry is None:
            return call
        try:
            rest = credentials, wait_for_ready, compression
            return self._started(call, decision, timeout, request, metadata, *rest)
        except Exception:  # another library's object, which is no full call
            return call

    def _started(self, call: Any, decision: Decision, *_: Any) -> Any:
        """Watch a call; what streams is not sent again."""
        call.add_done_callback(partial(_ended, self._auth, decision))
        return call

    def _ask_first(self, request: Any, timeout: float | None, metadata: Any, *rest: Any) -> Any:
        """Return a call that begins once it is known what it is to carry."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # no loop that could be held up
            return self._ask_and_wait(request, timeout, metadata, *rest)
        asking = self._ask(request, timeout, metadata, *rest)
        return self.pending(None).bring(asking, timeout)

    def _ask_and_wait(self, request: Any, timeout: float | None, metadata: Any, *rest: Any) -> Any:
        try:
            decision = self._auth.decision(metadata)
        except TokenUnavailableRpcError as error:
            return self.pending(EndedCall.of(error))
        return self._send(decision, request, timeout, metadata, *rest)

    async def _ask(self, request: Any, timeout: float | None, metadata: Any, *rest: Any) -> Any:
        asked = monotonic()
        decision = await self._auth.decision_async(metadata)
        if timeout is not None:
            timeout = max(timeout - (monotonic() - asked), 0)
        return self._send(decision, request, timeout, metadata, *rest)


def _ended(auth: GrpcAuth, decision: Decision, call: Any) -> None:
    try:
        if code_of_ended(call) is UNAUTHENTICATED:
            auth.refuse(decision)
    except Exception:
        return


class UnaryUnary(_Method, _UnaryUnaryMultiCallable):
    pending = UnaryUnaryCall

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._send(
            None, request, timeout, metadata, credentials, wait_for_ready, compression
        )

    def _started(self, call: Any, decision: Decision, *options: Any) -> Any:
        deadline = None if options[0] is None else monotonic() + options[0]
        return UnaryUnaryCall(call, self._again, decision, deadline, *options[1:])

    async def _again(
        self, refused: Decision, deadline: float | None, request: Any, metadata: Any, *rest: Any
    ) -> Any:
        credentials, wait_for_ready, compression = rest
        try:
            second = await self._auth.renew_async(refused, deadline)
            if second is None:
                return None
            return self._inner(
                request,
                timeout=second.timeout,
                metadata=second.metadata(metadata),
                credentials=credentials,
                wait_for_ready=wait_for_ready,
                compression=compression,
            )
        except Exception:  # a channel closed meanwhile: the refusal stands
            return None


class UnaryStream(_Method, _UnaryStreamMultiCallable):
    pending = UnaryStreamCall

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._send(
            None, request, timeout, metadata, credentials, wait_for_ready, compression
        )


class StreamUnary(_Method, _StreamUnaryMultiCallable):
    pending = StreamUnaryCall

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._send(
            None, request_iterator, timeout, metadata, credentials, wait_for_ready, compression
        )


class StreamStream(_Method, _StreamStreamMultiCallable):
    pending = StreamStreamCall

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        return self._send(
            None, request_iterator, timeout, metadata, credentials, wait_for_ready, compression
        )
