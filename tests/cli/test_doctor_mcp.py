"""``doctor --url`` against servers of the official MCP SDK, and against other servers."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl

from manor_mcp_interceptors import MCPTokenProvider, TokenVerifier
from manor_mcp_interceptors._cli.demo.guestbook import Guestbook
from manor_mcp_interceptors._cli.demo.mcp_server import mcp_server
from manor_mcp_interceptors._cli.mcp_sdk import HAS_SESSIONLESS, MCPServer
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from tests.cli.running import doctor, run, words
from tests.support import FLAG, OTHER_SECRET
from tests.support.auth_servers import GOOD
from tests.support.uvicorn_server import serve

WITH = "call with the token"
WITHOUT = "call without a token"
HANDSHAKE = "MCP handshake"
JSON, STREAM = "application/json", "text/event-stream; charset=utf-8"

pytestmark = pytest.mark.usefixtures("env_on")


@pytest.fixture
def mcp_url() -> Iterator[str]:
    """Serve the official SDK's server; give its URL."""
    with serve(mcp_server(TokenVerifier(GOOD), Guestbook())) as origin:
        yield f"{origin}/mcp"


def test_the_mcp_handshake(mcp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done by the official client with our adapter; not tried if the secret is wrong."""
    found = doctor("--url", mcp_url)
    assert (found.exit_code, found.cause) == (0, None)
    assert "done with manor-search" in found.checks["MCP handshake"]["finding"]
    assert found.checks["MCP handshake"]["details"]["tools"] == "2"

    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    MCPTokenProvider.reset()
    found = doctor("--url", mcp_url)
    assert "another secret" in found.finding
    assert "MCP handshake" not in found.checks


def test_a_session_that_was_opened_is_ended() -> None:
    """The doctor leaves nothing behind at the server."""
    application = mcp_server(TokenVerifier(GOOD), Guestbook())
    seen = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                session = dict(message["headers"]).get(b"mcp-session-id")
                seen.append((scope["method"], message["status"], session))
            await send(message)

        await application(scope, receive, note)

    with serve(noting) as origin:
        assert doctor("--url", f"{origin}/mcp").exit_code == 0
    opened = {session for method, status, session in seen if (method, status) == ("POST", 200)}
    ended = {session for method, status, session in seen if (method, status) == ("DELETE", 200)}
    assert opened - {None} == ended != set()


def _elsewhere(auth: dict[str, Any]) -> Any:
    """Return the SDK's server, which takes calls for another host name than 127.0.0.1."""
    security = TransportSecuritySettings(allowed_hosts=["mcp.example.com:*"])
    if not HAS_SESSIONLESS:  # mcp 1.x
        auth = {**auth, "transport_security": security}
        return MCPServer("manor-search", **auth).streamable_http_app()
    server = MCPServer("manor-search", log_level="CRITICAL", **auth)
    return server.streamable_http_app(transport_security=security)


AUTH = {
    "token_verifier": MCPTokenVerifier(TokenVerifier(GOOD)),
    "auth": AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None),
}


@pytest.mark.parametrize("auth", [{}, AUTH], ids=["open", "with auth"])
def test_the_sdk_s_host_check(auth: dict[str, Any]) -> None:
    """It is the cause, whether it comes before the check of the token or after."""
    with serve(_elsewhere(auth)) as origin:
        found = doctor("--url", f"{origin}/mcp")
        said = run("doctor", "--url", f"{origin}/mcp").stdout
    assert (found.exit_code, found.cause) == (1, WITH)
    assert found.finding.startswith("421 Misdirected Request: ")
    assert "the host check of the MCP SDK" in found.finding
    assert 'streamable_http_app(host="0.0.0.0")' in found.fix
    assert "transport_security=" in found.fix
    assert "A call made now carries a token" not in said
    assert HANDSHAKE not in found.checks


def test_the_sdk_s_host_check_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag is the cause; the host check is reported too."""
    monkeypatch.setenv(FLAG.upper(), "off")
    with serve(_elsewhere({})) as origin:
        found = doctor("--url", f"{origin}/mcp")
    assert found.cause == "flag"
    assert "transport_security=" in found.checks[WITHOUT]["fix"]


def _answering(content_type: str, body: bytes, seen: list[tuple[str, bool]]) -> Any:
    """Return an application that gives anybody this answer, and notes method and token."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["method"], b"authorization" in dict(scope["headers"])))
        headers = [(b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b'{"id": 1, "state": "queued"}'),
        (JSON, b'[{"jsonrpc": "2.0"}]'),
        (JSON, b""),
        (JSON, b"[" * 60_000),
        ("text/plain", b'{"jsonrpc": "2.0"}'),
        (STREAM, b"data: hello\n\n"),
        (STREAM, b": ping\n" * 100 + b'data: {"jsonrpc": "2.0"}\n\n'),
    ],
    ids=["json", "array", "empty", "deep", "text", "event", "pings"],
)
def test_an_endpoint_that_takes_any_post(content_type: str, body: bytes) -> None:
    """One POST without a token and one with it: no handshake, which would do more there."""
    seen: list[tuple[str, bool]] = []
    with serve(_answering(content_type, body, seen)) as origin:
        found = doctor("--url", f"{origin}/orders")
    assert seen == [("POST", False), ("POST", True)]
    assert found.checks[HANDSHAKE]["state"] == "note"
    assert "is no MCP server" in found.checks[HANDSHAKE]["finding"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b'{"jsonrpc": "2.0", "id": 1, "result": {}}'),
        (STREAM, b'id: 1\ndata:\n\n: ping\nevent: message\ndata: {"jsonrpc": "2.0"}\n\n'),
    ],
    ids=["json", "stream"],
)
def test_what_looks_like_mcp_is_called_by_the_official_client(
    monkeypatch: pytest.MonkeyPatch, content_type: str, body: bytes
) -> None:
    """An event without data comes first if a stream can be resumed; nothing waits for ever."""
    monkeypatch.setattr("manor_mcp_interceptors._cli.doctor.mcp_handshake.DEADLINE", 0.5)
    seen: list[tuple[str, bool]] = []
    with serve(_answering(content_type, body, seen)) as origin:
        found = doctor("--url", f"{origin}/mcp")
    assert len(seen) > 2
    assert "the official client failed" in found.checks[HANDSHAKE]["finding"]


def test_the_help_tells_that_it_posts() -> None:
    """A POST may do something: the help warns before the server's log does."""
    assert "POST an MCP initialize" in words(run("doctor", "--help").stdout)


def test_another_mcp_sdk(mcp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK without the client that the handshake needs is no error."""
    monkeypatch.delitem(
        sys.modules, "manor_mcp_interceptors._cli.doctor.mcp_handshake", raising=False
    )
    monkeypatch.delitem(sys.modules, "manor_mcp_interceptors._cli.mcp_sdk", raising=False)
    monkeypatch.setitem(sys.modules, "mcp", types.ModuleType("mcp"))
    found = doctor("--url", mcp_url)
    assert (found.exit_code, found.checks[HANDSHAKE]["state"]) == (0, "note")


def test_a_server_s_name_is_shown_without_tokens() -> None:
    """What the server reports in the handshake comes from outside, too."""
    server = MCPServer(f"search {MCPTokenProvider.get_token()}", log_level="CRITICAL")
    with serve(server.streamable_http_app()) as origin:
        found = doctor("--url", f"{origin}/mcp")
    assert found.checks[HANDSHAKE]["finding"].startswith("done with search <token>")
    assert "eyJ" not in found.text
