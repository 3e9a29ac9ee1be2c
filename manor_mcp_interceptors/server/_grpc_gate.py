"""What the sync and the aio interceptor share: which call is let in, and as whose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import grpc

from manor_mcp_interceptors._bearer import METADATA_KEY

from ._door import judge_of
from .reasons import Reason
from .verifier import TokenVerifier, VerifiedToken

HEALTH: Final = ("/grpc.health.v1.Health/*",)
"""Probes carry no token. Reflection is not exempt: it tells what there is to attack."""

Behavior = Callable[[Any, Any], Any]

_KINDS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class Gate:
    """Judges calls by method and metadata."""

    def __init__(self, verifier: TokenVerifier | None, exempt: Iterable[str]) -> None:
        patterns = tuple(exempt)
        for pattern in patterns:
            if pattern.count("/") != 2 or not pattern.startswith("/"):  # noqa: PLR2004 - /service/method
                raise ValueError(
                    f"exempt={pattern!r}: give a method as '/package.Service/Method',"
                    " or all of a service's as '/package.Service/*'"
                )
        self._verifier = verifier
        self._methods = frozenset(patterns)

    def judge(self, details: grpc.HandlerCallDetails) -> VerifiedToken | Reason | None:
        """Return the caller, or why there is none; None where the method is exempt."""
        method: str = details.method
        service = method.rpartition("/")[0]
        if method in self._methods or f"{service}/*" in self._methods:
            return None
        metadata = details.invocation_metadata or ()
        values = [str(value) for key, value in metadata if key == METADATA_KEY]
        return judge_of(self._verifier).judge_authorization(values)


def rebuild(
    handler: grpc.RpcMethodHandler[Any, Any],
    wrap: Callable[[Behavior, bool], Behavior],
    *,
    unread: bool = False,
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler of the same kind around ``wrap(behavior, response_streaming)``.

    Args:
        handler: What serves the method.
        wrap: Makes one behavior of another.
        unread: Leaves the requests as bytes: a stranger's are not parsed.
    """
    streaming = bool(handler.response_streaming)
    name, make = _KINDS[bool(handler.request_streaming), streaming]
    deserializer = None if unread else handler.request_deserializer
    return make(wrap(getattr(handler, name), streaming), deserializer, handler.response_serializer)
