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

    They need a secure channel, TLS or local credentials; gRPC refuses them on any other. gRPC
    asks them on a thread of its own at each call (150 to 400 µs), so where an interceptor will
    do, it is the cheaper one. Three things no call credentials can do: a call that has an
    `authorization` in its metadata goes out with two; a refused call is not tried again; and
    ``required=True`` is a failure with code UNAVAILABLE, whose details name the outcome, because
    gRPC makes its own error of it.

    Args:
        provider: None is the process-wide one, looked up at each call.
        audience: The server's `aud`; None is the provider's.
        required: Fail a call for which there is no token, instead of sending it without.
    """
    auth = GrpcAuth(provider, audience, required=required)
    return grpc.metadata_call_credentials(_Plugin(auth), name="manor-mcp-auth")


class _Plugin(grpc.AuthMetadataPlugin):
    """Calls back once, whatever happens: a call whose callback is forgotten hangs for ever."""

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
            entry = self._auth.decision().metadata_entry
            metadata = () if entry is None else (entry,)
        except TokenUnavailableRpcError as unavailable:
            # Its text alone reaches the caller: grpc makes an error of its own around it.
            error = TokenUnavailableError(f"{unavailable.outcome}: {unavailable.details()}")
        callback(metadata, error)
