"""The checks of ``doctor --url``."""

from __future__ import annotations

from urllib.parse import urlsplit

from manor_mcp_interceptors._hosts import compile_hosts, normalize_host

from .answers import (
    Answer,
    UnreachableError,
    check_clock,
    check_with,
    check_without,
    not_called,
)
from .causes import explain_refusal
from .checks import Check, State
from .host import Host
from .http_call import HttpServer


def http_checks(host: Host, url: str) -> list[Check]:
    """Call the server at `url` without and with the token, and explain the answers."""
    allowed = _check_host(host, url)
    checks = [allowed]
    server = HttpServer(url)
    try:
        bare = server.call(None)
        checks += filter(None, [check_without(bare), check_clock(bare)])
        if not allowed.failed:
            checks += _with_token(host, server, bare)
    except UnreachableError as error:
        checks.append(Check("server", State.FAILED, str(error), error.fix))
    return checks


def _check_host(host: Host, url: str) -> Check:
    """Report whether the HTTP adapters may send a token to this host."""
    parts = urlsplit(url)
    name = normalize_host(parts.hostname or "")
    allowed = host.settings.allowed_hosts
    if allowed is None:
        finding = f"{name} may receive a token: MCP_AUTH_ALLOWED_HOSTS is not set"
        return Check("host", State.OK, finding)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if compile_hosts(allowed).allow(name, port):
        return Check("host", State.OK, f"{name} may receive a token")
    finding = f"{name} may not receive a token: it is not in MCP_AUTH_ALLOWED_HOSTS"
    return Check("host", State.FAILED, finding, f"add {name} to it if you trust that server")


def _with_token(host: Host, server: HttpServer, bare: Answer) -> list[Check]:
    token = host.provider.token()
    if token is None:
        return [not_called()]
    answer = server.call(token)
    if not answer.refused:
        return [check_with(bare, answer), *_handshake(host, server, answer)]
    if not bare.refused:
        finding = f"{answer.status}, but only with a token: something there refuses tokens"
        return [Check("call with the token", State.FAILED, finding, "see the server's log")]
    if "bearer" not in bare.challenge.lower() and bare.challenge:
        finding = f"{answer.status}: other credentials are required: {bare.challenge}"
        fix = "is there a proxy before the server? The token has not reached its verifier"
        return [Check("call with the token", State.FAILED, finding, fix)]
    return [
        explain_refusal(
            host,
            answer,
            lambda other: not server.call(other).refused,
            audiences=[server.address, server.origin],
        )
    ]


def _handshake(host: Host, server: HttpServer, answer: Answer) -> list[Check]:
    if not server.speaks_mcp or not answer.served:
        return []
    if not answer.is_mcp:
        # An endpoint that accepts any POST: another one may do something there.
        finding = "not tried: what answered initialize is no MCP server, its body is no JSON-RPC"
        return [Check("MCP handshake", State.NOTE, finding)]
    try:
        from .mcp_handshake import check_handshake
    except ImportError:
        finding = "initialize was answered; install the extra mcp to try the official client too"
        return [Check("MCP handshake", State.NOTE, finding)]
    return [check_handshake(host.provider, server.url)]
