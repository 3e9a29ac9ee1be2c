"""The checks of ``doctor --grpc``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from manor_mcp_interceptors._bearer import METADATA_KEY, format_bearer
from manor_mcp_interceptors.provider import MCPTokenProvider

from .answers import Answer, UnreachableError, check_with, check_without
from .causes import explain
from .checks import Check, State
from .foreign import shown
from .settings_checks import token_settings

TIMEOUT: Final = 5.0
"""Seconds."""

METHODS: Final = (
    "/manor.mcp.v1.SearchService/ListTools",
    "/model_context_protocol.Mcp/ListTools",
    "/manor.mcp_auth.Doctor/NoSuchMethod",
)
"""Called with an empty message, in this order, until a server knows one. The last one is known to
none, and is refused for want of a token all the same where every method asks for one."""


class GrpcServer:
    """A server that is called by one method, whichever it knows."""

    def __init__(self, channel: Any, target: str, methods: Sequence[str]) -> None:
        self._channel = channel
        self._target = target
        self._methods = list(methods)

    def call(self, token: str | None) -> Answer:
        """Call the first method that the server knows.

        Raises:
            UnreachableError: No answer came.
        """
        answer = self._call(token)
        while answer.status.startswith("UNIMPLEMENTED") and len(self._methods) > 1:
            del self._methods[0]
            answer = self._call(token)
        return answer

    @property
    def method(self) -> str:
        return self._methods[0]

    def _call(self, token: str | None) -> Answer:
        import grpc

        metadata = None if token is None else ((METADATA_KEY, format_bearer(token)),)
        call = self._channel.unary_unary(self._methods[0])
        try:
            call(b"", metadata=metadata, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return self._failure(error.code().name, error.details() or "")
        return Answer("OK", refused=False, served=True)

    def _failure(self, code: str, details: str) -> Answer:
        if code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
            fix = "is the server up, is the address right, and is it TLS (--tls) or not?"
            raise UnreachableError(f"no answer from {self._target}: {code}: {shown(details)}", fix)
        # A method that is not there, or dislikes an empty message, was reached all the same.
        return Answer(code, code == "UNAUTHENTICATED", code == "INVALID_ARGUMENT", shown(details))


def grpc_checks(
    provider: MCPTokenProvider,
    target: str,
    audiences: Sequence[str],
    *,
    method: str | None = None,
    tls: bool = False,
) -> list[Check]:
    """Call the server at `target` without and with the token, and explain what comes back."""
    try:
        import grpc
    except ModuleNotFoundError:
        fix = "pip install 'manor-mcp-interceptors[grpc]'"
        return [Check("gRPC", State.FAILED, "grpcio is not installed", fix)]
    if tls:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials())
    else:
        channel = grpc.insecure_channel(target)
    with channel:
        server = GrpcServer(channel, target, METHODS if method is None else [method])
        try:
            return _checks(provider, server, audiences)
        except UnreachableError as error:
            return [Check("server", State.FAILED, str(error), error.fix)]


def _checks(
    provider: MCPTokenProvider, server: GrpcServer, audiences: Sequence[str]
) -> list[Check]:
    bare = server.call(None)
    checks = [check_without(bare)]
    token = provider.token()
    if token is None:
        return [*checks, Check("call with the token", State.NOTE, "not made: there is no token")]
    answer = server.call(token)
    if answer.refused and bare.refused:
        settings = token_settings(provider)
        keys = provider._setup.keys.verification_keys(settings)
        return [
            *checks,
            explain(
                answer.status,
                settings,
                keys,
                lambda other: not server.call(other).refused,
                audiences=audiences,
            ),
        ]
    if answer.status == "UNIMPLEMENTED" and bare.refused:
        finding = "UNIMPLEMENTED: the server accepts the token, and knows none of the methods tried"
        return [*checks, Check("call with the token", State.OK, finding)]
    if answer.status == "UNIMPLEMENTED":
        finding = (
            "nothing was tested: the server knows no method that was called, and asked"
            " nobody for a token"
        )
        fix = "name one of its methods, unary: --method /package.Service/Method"
        return [*checks, Check("call with the token", State.WARNING, finding, fix)]
    return [*checks, check_with(bare, answer)]
