"""The checks of ``doctor --url``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from urllib.parse import urlsplit

from manor_mcp_interceptors._hosts import compile_hosts, normalize_host
from manor_mcp_interceptors.provider import MCPTokenProvider

from .answers import Answer, UnreachableError, check_clock, check_with, check_without
from .causes import explain
from .checks import Check, State
from .http_call import HttpServer
from .settings_checks import token_settings, usable_settings


def http_checks(provider: MCPTokenProvider, url: str, audiences: Sequence[str]) -> list[Check]:
    """Call the server at `url` without and with the token, and explain what comes back."""
    allowed = check_host(provider, url)
    checks = [allowed]
    server = HttpServer(url)
    try:
        bare = server.call(None)
        checks += filter(None, [check_without(bare), check_clock(bare)])
        if not allowed.failed:
            checks += _with_token(provider, server, bare, [*audiences, *_audiences_of(url)])
    except UnreachableError as error:
        checks.append(Check("server", State.FAILED, str(error), error.fix))
    return checks


def check_host(provider: MCPTokenProvider, url: str) -> Check:
    """Tell whether the HTTP adapters may send a token to this host."""
    parts = urlsplit(url)
    host = normalize_host(parts.hostname or "")
    allowed = usable_settings(provider).allowed_hosts
    if allowed is None:
        return Check("host", State.OK, f"{host}: MCP_AUTH_ALLOWED_HOSTS is not set, any host may")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    if compile_hosts(allowed).allow(host, port):
        return Check("host", State.OK, f"{host} may be sent a token")
    finding = f"{host} may not be sent a token: MCP_AUTH_ALLOWED_HOSTS leaves it out"
    return Check("host", State.FAILED, finding, f"add {host} to it, if that server is yours")


def _with_token(
    provider: MCPTokenProvider, server: HttpServer, bare: Answer, audiences: Sequence[str]
) -> list[Check]:
    token = provider.token()
    if token is None:
        return [Check("call with the token", State.NOTE, "not made: there is no token")]
    answer = server.call(token)
    if not answer.refused:
        return [check_with(bare, answer), *_handshake(provider, server, answer)]
    if not bare.refused:
        finding = f"{answer.status}, but only with a token: something there refuses tokens"
        return [Check("call with the token", State.FAILED, finding, "look at the server's log")]
    if "bearer" not in bare.challenge.lower() and bare.challenge:
        finding = f"{answer.status}: who answers wants other credentials: {bare.challenge}"
        fix = "a proxy before the server? The token has not reached anyone who knows it"
        return [Check("call with the token", State.FAILED, finding, fix)]
    settings = token_settings(provider)
    return [
        explain(
            answer.status,
            settings,
            provider._setup.keys.verification_keys(settings),
            lambda other: not server.call(other).refused,
            audiences=audiences,
            clock_offset=answer.clock_offset,
        )
    ]


def _audiences_of(url: str) -> list[str]:
    """Return what a server may call itself, judging by its URL."""
    parts = urlsplit(url)
    return [url, f"{parts.scheme}://{parts.netloc}"]


def _handshake(provider: MCPTokenProvider, server: HttpServer, answer: Answer) -> list[Check]:
    if not server.speaks_mcp or not answer.served:
        return []
    if not answer.is_mcp:
        # An ordinary endpoint that takes any POST: each further one may do something there.
        finding = "not tried: what answered initialize is no MCP server, its body is no JSON-RPC"
        return [Check("MCP handshake", State.NOTE, finding)]
    if find_spec("mcp") is None or find_spec("httpx2") is None:
        finding = "initialize was answered; install the extra mcp for the official client's word"
        return [Check("MCP handshake", State.NOTE, finding)]
    from .mcp_handshake import check_handshake

    return [check_handshake(provider, server.url)]
