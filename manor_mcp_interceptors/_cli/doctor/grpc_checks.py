"""The checks of ``doctor --grpc``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from manor_mcp_interceptors._bearer import METADATA_KEY, format_bearer

from .answers import (
    ACCEPTED,
    PRIVATE_CA_FIX,
    Answer,
    UnreachableError,
    check_with,
    check_without,
    not_called,
    redact,
)
from .causes import explain_refusal
from .checks import Check, State
from .host import Host

TIMEOUT: Final = 5.0
"""Seconds."""

METHODS: Final = (
    "/manor.mcp.v1.SearchService/ListTools",
    "/model_context_protocol.Mcp/ListTools",
    "/manor.mcp_auth.Doctor/NoSuchMethod",
)
"""Called with an empty message, in this order, until the server knows one. No server knows the
last one, but a server that protects every method refuses it without a token."""


class GrpcServer:
    """A server that is called by the first of some methods that it knows."""

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
        while answer.status == "UNIMPLEMENTED" and len(self._methods) > 1:
            del self._methods[0]
            answer = self._call(token)
        return answer

    def _call(self, token: str | None) -> Answer:
        import grpc

        metadata = None if token is None else ((METADATA_KEY, format_bearer(token)),)
        call = self._channel.unary_unary(self._methods[0])
        try:
            call(b"", metadata=metadata, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return self._failure(error.code().name, redact(error.details() or ""))
        return Answer("OK", refused=False, served=True)

    def _failure(self, code: str, details: str) -> Answer:
        if code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
            fix = "is the server up, is the address right, and is it TLS (--tls) or not?"
            if "CERTIFICATE_VERIFY_FAILED" in details:
                fix = PRIVATE_CA_FIX
            raise UnreachableError(f"no answer from {redact(self._target)}: {code}: {details}", fix)
        # A method that is unknown, or that refuses an empty message, was reached.
        return Answer(code, code == "UNAUTHENTICATED", code == "INVALID_ARGUMENT", details)


def grpc_checks(
    host: Host, target: str, *, method: str | None = None, tls: bool = False
) -> list[Check]:
    """Call the server at `target` without and with the token, and explain the answers."""
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
            bare = server.call(None)
            return [check_without(bare), _with_token(host, server, bare)]
        except UnreachableError as error:
            return [Check("server", State.FAILED, str(error), error.fix)]


def _with_token(host: Host, server: GrpcServer, bare: Answer) -> Check:
    token = host.provider.token()
    if token is None:
        return not_called()
    answer = server.call(token)
    if answer.refused and bare.refused:
        return explain_refusal(host, answer, lambda other: not server.call(other).refused)
    if answer.status == "UNIMPLEMENTED":
        return _unknown_method(bare)
    return check_with(bare, answer)


def _unknown_method(bare: Answer) -> Check:
    name = "call with the token"
    if bare.refused:
        finding = "UNIMPLEMENTED: the server accepts the token, but knows none of the methods tried"
        return Check(name, State.OK, finding, proves=ACCEPTED)
    finding = (
        "nothing was tested: the server knows no method that was called, and did not ask for a"
        " token"
    )
    fix = "name one of its unary methods: --method /package.Service/Method"
    return Check(name, State.WARNING, finding, fix)
