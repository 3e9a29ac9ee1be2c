"""gRPC interceptors for `grpc.aio` channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from grpc import aio
except ModuleNotFoundError as exc:
    if exc.name != "grpc":
        raise
    msg = "grpc_aio_interceptors needs grpcio: pip install 'manor-mcp-interceptors[grpc]'"
    raise ModuleNotFoundError(msg, name="grpc") from exc

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_metadata import add_entry, has_authorization, replace_details
from ._token_source import TokenSource

__all__ = ["grpc_aio_interceptors"]

Continuation = Callable[[Any, Any], Any]


def grpc_aio_interceptors(
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
) -> list[Any]:
    """Return four interceptors, one per call kind, for ``grpc.aio.*_channel(interceptors=...)``."""
    source = TokenSource(provider, audience, required=required)
    return [_UnaryUnary(source), _UnaryStream(source), _StreamUnary(source), _StreamStream(source)]


class _Interceptor:
    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def _invoke(self, continuation: Continuation, details: Any, request: Any) -> Any:
        entry = (await self._source.decision_async()).metadata_entry
        if entry is not None and not has_authorization(details.metadata):
            details = replace_details(details, metadata=add_entry(details.metadata, entry))
        return await continuation(details, request)


class _UnaryUnary(_Interceptor, aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        return await self._invoke(continuation, client_call_details, request)


class _UnaryStream(_Interceptor, aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        return await self._invoke(continuation, client_call_details, request)


class _StreamUnary(_Interceptor, aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._invoke(continuation, client_call_details, request_iterator)


class _StreamStream(_Interceptor, aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await self._invoke(continuation, client_call_details, request_iterator)
