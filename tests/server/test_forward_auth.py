"""What a proxy gets that asks about a call: on every path, with every method, without a body."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from manor_mcp_interceptors import Settings, SettingsError, TokenVerifier
from manor_mcp_interceptors.server.forward_auth import ForwardAuth
from tests.server.asking import Asked, ask
from tests.server.callers import CASES, PHRASE, SUBJECT, Case, token, verifier
from tests.support import SECRET
from tests.support.uvicorn_server import serve

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND"]
PATHS = [
    "/",
    "/auth",
    "/healthz",
    "/readyz",
    "//healthz",
    "/healthz/",
    "/auth/../healthz",
    "/auth/%2e%2e/healthz",
    "/HEALTHZ",
    "/%68ealthz",
    "/healthz?next=/auth",
    "/healthz#",
    "*",
    "http://127.0.0.1:{health}/healthz",
]
"""What a proxy may send that forwards the path of the call."""
HEALTH_PORT = 9192


def good() -> list[str]:
    return [f"Bearer {token(scope='search:read search:write')}"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(ForwardAuth(verifier(), health_port=HEALTH_PORT)) as url:
        yield url


def serve_verifier(
    *, enforcement: Any = "enforce", **options: Any
) -> tuple[TokenVerifier, AbstractContextManager[str]]:
    made = TokenVerifier(Settings(secret=SECRET, enforcement=enforcement))
    return made, serve(ForwardAuth(made, **options))


@pytest.mark.parametrize("method", METHODS)
def test_a_good_token_is_200_with_the_caller(url: str, method: str) -> None:
    """And nothing else: no body, also where the request has one, which is not read."""
    body = b"" if method in ("GET", "HEAD") else b"x" * 100_000
    expected = {
        "x-mcp-caller": SUBJECT,
        "x-mcp-scope": "search:read search:write",
        "content-length": "0",
    }
    assert ask(url, good(), method=method, body=body) == Asked(200, expected, b"")


def test_a_token_without_scopes_has_an_empty_scope(url: str) -> None:
    """A proxy that copies the header overwrites the caller's own."""
    asked = ask(url, [f"Bearer {token()}"], headers=[("X-MCP-Scope", "admin")])
    assert (asked.status, asked.headers["x-mcp-scope"]) == (200, "")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_call_meets_what_other_servers_answer(case: Case) -> None:
    """The same challenge and the same reason."""
    made = verifier(previous=case.previous)
    with serve(ForwardAuth(made)) as url:
        asked = ask(url, case.values(), headers=[("X-MCP-Caller", "admin")])
    assert made.rejections() == ({} if case.reason is None else {case.reason: 1})
    if case.reason is None:
        assert (asked.status, asked.caller) == (200, SUBJECT)
        return
    error = f' error="invalid_token", error_description="{PHRASE}"' if case.sends_token else ""
    headers = {"www-authenticate": f"Bearer{error}", "content-length": "0"}
    assert asked == Asked(401, headers, b"")


@pytest.mark.parametrize("path", PATHS)
def test_no_path_opens_without_a_token(url: str, path: str) -> None:
    """A proxy may forward the caller's path and method: no page of health is a way in.

    Nor do headers that name the port of health lead to it.
    """
    path = path.format(health=HEALTH_PORT)
    own_port = [("X-Forwarded-Port", str(HEALTH_PORT)), ("X-Original-URL", "/healthz")]
    preflight = [("Origin", "https://ui.example"), ("Access-Control-Request-Method", "GET")]
    for method in METHODS:
        for headers in ([], own_port, preflight):
            asked = ask(url, method=method, path=path, headers=headers)
            assert (method, asked.status, asked.caller) == (method, 401, None)
    assert ask(url, good(), path=path).caller == SUBJECT


def test_a_missing_scope_is_403() -> None:
    """With what is needed, by the verifier and by this door."""
    made = TokenVerifier(Settings(secret=SECRET), required_scopes=["search:read"])
    with serve(ForwardAuth(made, required_scopes=["search:write"])) as url:
        asked = ask(url, [f"Bearer {token(scope='search:read')}"])
        assert ask(url, good()).status == 200
    needed = 'Bearer error="insufficient_scope", scope="search:read search:write"'
    assert asked == Asked(403, {"www-authenticate": needed, "content-length": "0"}, b"")
    assert made.rejections() == {"scope": 1}


def test_a_required_scope_that_is_none_is_refused() -> None:
    """Before anything is served."""
    with pytest.raises(SettingsError, match="is no scope"):
        ForwardAuth(required_scopes=['a"b'])


CARRIED = ["service-a", "a b", "system:serviceaccount:prod:search", "spiffe://manor/search", "~!"]
NOT_CARRIED = [
    "a\r\nX-MCP-Caller: admin",
    "a\nb",
    "a\rb",
    "a\x00b",
    "a\tb",
    "a\x7f",
    "à",
    "\uff41",
    "a\u2028b",
    "a\u200b",
]


@pytest.mark.parametrize("subject", CARRIED)
def test_a_subject_of_visible_ascii_is_carried(url: str, subject: str) -> None:
    """As it is in the token."""
    assert ask(url, [f"Bearer {token(sub=subject)}"]).caller == subject


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        *(("sub", text) for text in [*NOT_CARRIED, " a", "a "]),
        *(("scope", text) for text in NOT_CARRIED),
    ],
)
def test_a_subject_that_no_header_carries_is_refused(claim: str, text: str) -> None:
    """Counted as refused and not as accepted, the first time and when it is remembered."""
    made, server = serve_verifier()
    changes: dict[str, Any] = {claim: text}
    sent = token(**changes)
    with server as url:
        answers = [ask(url, [f"Bearer {sent}"]) for _ in range(2)]
    assert [(asked.status, asked.caller) for asked in answers] == [(401, None)] * 2
    stats = made.stats()
    assert (stats.rejected, stats.accepted, stats.remembered) == ({"claim_invalid": 2}, 0, 0)
    assert made.verify(sent).claims[claim] == text  # other servers need no header for it


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([], "127.0.0.1"),
        ([("X-Real-IP", "192.0.2.1")], "192.0.2.1"),
        ([("X-Forwarded-For", "198.51.100.9, 192.0.2.2"), ("X-Real-IP", "::1")], "192.0.2.2"),
        ([("X-Forwarded-For", "198.51.100.9"), ("X-Forwarded-For", "192.0.2.3")], "192.0.2.3"),
        ([("X-Forwarded-For", "")], "127.0.0.1"),
    ],
)
def test_observe_mode_lets_a_call_through_as_nobody(
    headers: list[tuple[str, str]], address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller's own headers are overwritten; the log names whom the nearest proxy names."""
    caplog.set_level(logging.WARNING, "manor_mcp_interceptors")
    made, server = serve_verifier(enforcement="observe")
    with server as url:
        asked = ask(url, headers=[*headers, ("X-MCP-Caller", "admin"), ("User-Agent", "old/1")])
        assert ask(url, good()).caller == SUBJECT
    empty = {"x-mcp-caller": "", "x-mcp-scope": "", "content-length": "0"}
    assert asked == Asked(200, empty, b"")
    assert (made.stats().observed, made.rejections()) == ({"missing": 1}, {})
    assert f"missing, from '{address}', user agent 'old/1'" in caplog.text


def test_a_websocket_is_refused() -> None:
    """In observe mode too: its handshake cannot be answered with 200."""
    settings = Settings(secret=SECRET, enforcement="observe")
    with (
        TestClient(ForwardAuth(TokenVerifier(settings))) as client,
        pytest.raises(WebSocketDisconnect) as refusal,
        client.websocket_connect("/auth", headers={"Authorization": good()[0]}),
    ):
        pass
    assert refusal.value.code == 1008


@contextmanager
def by_port(app: Any, port: int) -> Iterator[Callable[[str], int]]:
    """Serve `app` as if connections came in on `port`."""

    async def on_port(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "server": ("127.0.0.1", port)}, receive, send)

    with serve(on_port) as url:
        yield lambda path: ask(url, good(), path=path).status


def test_health_has_a_port_of_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Alive in any case, ready while there is a usable key; nothing is verified there."""
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "0")
    with by_port(ForwardAuth(health_port=HEALTH_PORT), HEALTH_PORT) as status:
        assert "no token is accepted" in caplog.text
        assert [status(path) for path in ("/healthz", "/readyz", "/auth")] == [200, 503, 404]
        monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
        assert [status(path) for path in ("/healthz", "/readyz", "/auth")] == [200, 200, 404]
        monkeypatch.delenv("MCP_AUTH_SECRET")
        assert status("/readyz") == 503
