"""gRPC call credentials: a token on every call of a secure channel."""

from __future__ import annotations

from manor_mcp_interceptors._optional import needs

with needs("grpc", "grpc_call_credentials"):
    import grpc

from manor_mcp_interceptors.errors import TokenUnavailableError
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._grpc_auth import GrpcAuth
from ._grpc_unavailable import TokenUnavailableRpcError

__all__ = ["grpc_call_credentials"]


def grpc_call_credentials(
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
) -> grpc.CallCredentials:
    """Return call credentials that put a token on every call, of all four kinds, sync and aio.

    They need a secure channel, by TLS or local credentials; gRPC refuses them on any other. gRPC
    starts a thread for them at each call (150 to 400 µs), so an interceptor costs less. Call
    credentials cannot do three things: a call that has `authorization` in its metadata is sent
    with two; a refused call is not sent again; and with ``required=True`` a call fails with the
    code UNAVAILABLE, and details that name the outcome, because gRPC replaces the error.

    Args:
        provider: None is the process-wide one.
        audience: The server's `aud`; None is the provider's.
        required: Fail a call for which there is no token, instead of sending it without.
    """
    auth = GrpcAuth(provider, audience, required=required)
    return grpc.metadata_call_credentials(_Plugin(auth), name="manor-mcp-auth")


class _Plugin(grpc.AuthMetadataPlugin):
    """Calls back exactly once: without it, the call never ends."""

    def __init__(self, auth: GrpcAuth) -> None:
        self._auth = auth

    def __call__(
        self,
        context: grpc.AuthMetadataContext,  # noqa: ARG002 - the same token for every method
        callback: grpc.AuthMetadataPluginCallback,
    ) -> None:
        metadata: tuple[tuple[str, str], ...] = ()
        error: Exception | None = None
        try:
            metadata = self._auth.attempt().metadata or ()
        except TokenUnavailableRpcError as unavailable:
            # grpc passes only the text on to the caller.
            error = TokenUnavailableError(f"{unavailable.outcome}: {unavailable.details()}")
        callback(metadata, error)
