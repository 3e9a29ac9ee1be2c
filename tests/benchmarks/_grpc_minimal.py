"""Interceptors as every tutorial shows them: fixed metadata; no expiry, no refusal, no flag."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
from grpc import aio

Metadata = tuple[tuple[str, str], ...]


class _Fields(NamedTuple):
    method: Any
    timeout: Any
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class Details(_Fields, grpc.ClientCallDetails):
    """What grpc's own examples pass on."""


class MinimalInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """One object for all four kinds."""

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._changed(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._changed(details), request)

    def intercept_stream_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._changed(details), request)

    def intercept_stream_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._changed(details), request)

    def _changed(self, details: Any) -> Details:
        return Details(
            details.method,
            details.timeout,
            (*(details.metadata or ()), *self.metadata),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class _Aio:
    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata

    def changed(self, details: Any) -> Any:
        return details._replace(metadata=aio.Metadata(*(details.metadata or ()), *self.metadata))


class _UnaryUnary(_Aio, aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self.changed(details), request)


class _UnaryStream(_Aio, aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self.changed(details), request)


class _StreamUnary(_Aio, aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self.changed(details), request)


class _StreamStream(_Aio, aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(self.changed(details), request)


def minimal_aio_interceptors(metadata: Metadata) -> list[Any]:
    """Return four objects: aio files each under the first kind that it matches."""
    kinds = (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
    return [kind(metadata) for kind in kinds]
