"""gRPC interceptors for `grpc.intercept_channel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import grpc
except ModuleNotFoundError as exc:
    if exc.name != "grpc":
        raise
    msg = "GrpcAuthInterceptor needs grpcio: pip install 'manor-mcp-interceptors[grpc]'"
    raise ModuleNotFoundError(msg, name="grpc") from exc

from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_metadata import add_entry, has_authorization, replace_details
from ._token_source import TokenSource

__all__ = ["GrpcAuthInterceptor"]

Continuation = Callable[[Any, Any], Any]


class GrpcAuthInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Puts a token on every call of a sync channel, of all four kinds."""

    def __init__(
        self,
        *,
        provider: MCPTokenProvider | None = None,
        audience: str | None = None,
        required: bool = False,
    ) -> None:
        self._source = TokenSource(provider, audience, required=required)

    def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(self._attach(client_call_details), request)

    def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(self._attach(client_call_details), request)

    def intercept_stream_unary(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._attach(client_call_details), request_iterator)

    def intercept_stream_stream(
        self, continuation: Continuation, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(self._attach(client_call_details), request_iterator)

    def _attach(self, details: Any) -> Any:
        entry = self._source.decision().metadata_entry
        if entry is None or has_authorization(details.metadata):
            return details
        return replace_details(details, metadata=add_entry(details.metadata, entry))
