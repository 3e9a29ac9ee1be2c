"""The ASGI middleware: what it covers, what passes without a token, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware, current_caller
from tests.server.callers import PHRASE, token
from tests.support import SECRET

MODES = ["enforce", "observe"]
every_mode = pytest.mark.parametrize("mode", MODES)


def verifier(mode: Any = "enforce") -> TokenVerifier:
    return TokenVerifier(Settings(secret=SECRET, enforcement=mode))


def auth() -> dict[str, str]:
    return {"Authorization": f"Bearer {token()}"}


def name() -> str:
    caller = current_caller()
    return "nobody" if caller is None else caller.subject


def whoami(_: Request) -> JSONResponse:
    """Answer on a worker thread, as Starlette runs plain functions."""
    return JSONResponse(name())


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(name())
    await socket.close()


def routes(folder: Path) -> list[Any]:
    (folder / "page.txt").write_text("static")
    inner = Starlette(routes=[Route("/whoami", whoami)])
    return [
        Route("/whoami", whoami, methods=["GET", "OPTIONS"]),
        Route("/health", whoami),
        Route("/public/a/b", whoami),
        WebSocketRoute("/ws", chat),
        WebSocketRoute("/public/ws", chat),
        Mount("/inner", inner),
        Mount("/files", StaticFiles(directory=folder)),
    ]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(mode: str, tmp_path: Path) -> Iterator[TestClient]:
    """Serve everything behind the middleware, with a health page and a public part."""
    app = TokenAuthMiddleware(
        CORSMiddleware(Starlette(routes=routes(tmp_path)), allow_origins=["https://ui.example"]),
        verifier=verifier(mode),
        exempt=["/health", "/public/*"],
    )
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("path", ["/whoami", "/inner/whoami", "/files/page.txt", "/nothing"])
def test_everything_inside_is_covered(path: str, mode: str, client: TestClient) -> None:
    """Routes, mounted applications, static files, and pages that are not there."""
    bare, good = client.get(path), client.get(path, headers=auth())
    if mode == "enforce":
        assert (bare.status_code, bare.json()) == (401, {"detail": PHRASE})
        assert bare.headers["www-authenticate"] == "Bearer"
    else:
        assert bare.status_code == good.status_code
    if path.endswith("whoami"):
        assert good.json() == "service-a"
        assert bare.json() == ({"detail": PHRASE} if mode == "enforce" else "nobody")


@pytest.mark.parametrize("path", ["/health", "/public/a/b"])
def test_an_exempt_path_has_no_caller(path: str, client: TestClient) -> None:
    """Whatever token is sent; it is not verified."""
    for headers in ({}, auth(), {"Authorization": "Bearer x"}):
        assert client.get(path, headers=headers).json() == "nobody"


@pytest.mark.parametrize(
    "path",
    [
        "/public/../whoami",
        "/public/%2e%2e/whoami",
        "/public/./../whoami",
        "//health",
        "/public//a",
        "/public/..%2Fwhoami",
        "/public/a%5c..%5cwhoami",
        "/public",
        "/publicity",
        "/health/",
        "/health/more",
        "/HEALTH",
        "/whoami?x=/health",
        "/whoami#/health",
    ],
)
def test_a_path_that_only_resembles_an_exempt_one_is_covered(path: str) -> None:
    """Sent byte for byte as uvicorn hands it on: decoded, and not normalised."""
    from urllib.parse import unquote

    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    adapter = TokenAuthMiddleware(app, verifier=verifier(), exempt=["/health", "/public/*"])
    raw = path.partition("?")[0].partition("#")[0]
    statuses = run(adapter, {"type": "http", "method": "GET", "path": unquote(raw), "headers": []})
    assert (seen, statuses) == ([], [401])


def run(adapter: TokenAuthMiddleware, scope: dict[str, Any]) -> list[int]:
    """Serve one request; return the statuses that were sent."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    asyncio.run(adapter(scope, receive, send))
    return [message["status"] for message in sent if "status" in message]


def test_exempt_paths_are_those_below_the_mount() -> None:
    """As the routes of the application that is mounted write them."""
    inner = TokenAuthMiddleware(
        Starlette(routes=[Route("/health", whoami), Route("/api/health", whoami)]),
        verifier=verifier(),
        exempt=["/health"],
    )
    with TestClient(Starlette(routes=[Mount("/api", inner)])) as client:
        assert client.get("/api/health").json() == "nobody"
        assert client.get("/api/api/health").status_code == 401
        assert client.get("/api").status_code == 401


@pytest.mark.parametrize(
    "exempt",
    ["/health", ["health"], ["*"], ["/*"], [""], ["/a*"], ["/a/*/b"], ["/a/../b"], ["//a"]],
)
def test_an_exemption_that_is_no_path_is_refused(exempt: Any) -> None:
    """Above all those that would exempt everything."""
    with pytest.raises(ValueError, match="exempt="):
        TokenAuthMiddleware(FastAPI(), verifier=verifier(), exempt=exempt)


PREFLIGHT = {"Origin": "https://ui.example", "Access-Control-Request-Method": "GET"}


def test_a_cors_preflight_passes(mode: str, client: TestClient) -> None:
    """It carries no credentials; the request after it must. A plain OPTIONS is a request."""
    answer = client.options("/whoami", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://ui.example"
    for headers in ({}, {"Origin": "https://ui.example"}):
        bare = client.options("/whoami", headers=headers)
        assert bare.status_code == (401 if mode == "enforce" else 200)
    preflight = {**PREFLIGHT, **auth()}
    assert client.get("/whoami", headers={**PREFLIGHT}).status_code == (
        401 if mode == "enforce" else 200
    )
    assert client.options("/health", headers=preflight).status_code == 200


def test_a_websocket_is_closed_before_its_handshake(mode: str, client: TestClient) -> None:
    """Or served, with its caller or nobody."""
    with client.websocket_connect("/ws", headers=auth()) as socket:
        assert socket.receive_text() == "service-a"
    with client.websocket_connect("/public/ws") as socket:
        assert socket.receive_text() == "nobody"
    if mode == "observe":
        with client.websocket_connect("/ws") as socket:
            assert socket.receive_text() == "nobody"
        return
    with pytest.raises(WebSocketDisconnect) as refusal, client.websocket_connect("/ws"):
        pass
    assert (refusal.value.code, refusal.value.reason) == (1008, PHRASE)


def test_lifespan_passes() -> None:
    """The application starts and stops."""
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> Any:
        events.append("start")
        yield
        events.append("stop")

    app = FastAPI(lifespan=lifespan)
    with TestClient(TokenAuthMiddleware(app, verifier=verifier())):
        assert events == ["start"]
    assert events == ["start", "stop"]


def test_as_an_applications_own_middleware() -> None:
    """Added as FastAPI's docs do, and with the process-wide verifier."""
    app = FastAPI()
    app.add_middleware(TokenAuthMiddleware, verifier=verifier(), exempt=["/health"])
    app.add_api_route("/whoami", name)
    app.add_api_route("/health", name)
    with TestClient(app) as client:
        assert client.get("/health").json() == "nobody"
        assert client.get("/whoami").status_code == 401
        assert client.get("/docs").status_code == 401
        assert client.get("/whoami", headers=auth()).json() == "service-a"


def test_no_caller_is_left_behind() -> None:
    """A call within a call, in the same context: the inner one sees its own caller or nobody."""
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(name())

    adapters = TokenAuthMiddleware(inner, verifier=verifier("observe"), exempt=["/health"])
    bare = {"type": "http", "method": "GET", "path": "/", "headers": []}

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        seen.append(name())
        await adapters(bare, receive, send)
        await adapters({**bare, "path": "/health"}, receive, send)
        seen.append(name())

    good = {**bare, "headers": [(b"authorization", f"Bearer {token()}".encode())]}
    run(TokenAuthMiddleware(outer, verifier=verifier()), good)
    assert seen == ["service-a", "nobody", "nobody", "service-a"]
    assert current_caller() is None
