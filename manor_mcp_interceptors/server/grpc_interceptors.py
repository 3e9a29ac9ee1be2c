"""gRPC: a server interceptor for all four kinds of call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from manor_mcp_interceptors._optional import needs

with needs("grpc", __name__):
    import grpc

from ._caller import current_caller
from ._grpc_gate import HEALTH, Behavior, CallGate, entering, status
from .reasons import Reason
from .verifier import TokenVerifier

__all__ = ["GrpcAuthServerInterceptor", "current_caller"]

if TYPE_CHECKING:  # generic for type checkers only
    _ServerInterceptor = grpc.ServerInterceptor[Any, Any]
else:
    _ServerInterceptor = grpc.ServerInterceptor


class GrpcAuthServerInterceptor(_ServerInterceptor):
    """Lets in calls with a valid token; refuses all others with UNAUTHENTICATED.

    In observe mode (``MCP_AUTH_ENFORCEMENT``) the others are let through, counted and logged;
    `current_caller` is then None.

    Put it first: ``grpc.server(pool, interceptors=[GrpcAuthServerInterceptor()])``. For a refused
    call no code of the service runs. A handler reads its caller with `current_caller`.
    """

    def __init__(
        self,
        verifier: TokenVerifier | None = None,
        *,
        exempt: Iterable[str] = HEALTH,
        required_scopes: Iterable[str] = (),
    ) -> None:
        """Take the verifier of the tokens.

        Args:
            verifier: None is the process-wide one, which reads the environment. If that has no
                usable secret, a warning is logged now.
            exempt: Methods that need no token, as ``/package.Service/Method`` or
                ``/package.Service/*``. They replace the default, the health service of gRPC.
            required_scopes: What the tokens must have in `scope`; a call with too few ends as
                PERMISSION_DENIED.

        Raises:
            SettingsError: A required scope is malformed.
        """
        self._gate = CallGate(verifier, exempt, required_scopes)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the method's handler with the caller set, or one that refuses."""
        handler = continuation(handler_call_details)
        guarded: grpc.RpcMethodHandler[Any, Any] | None
        admission = self._gate.admit(handler, handler_call_details)
        guarded = self._gate.guard(handler, handler_call_details, admission, entering, _refuse)
        return guarded


def _refuse(reason: Reason) -> Behavior:
    return lambda _, context: context.abort(*status(reason))
