"""No `repr` of ours shows a secret or a token, whatever object it is asked of."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    Httpx2Auth,
    HttpxAuth,
    MCPTokenProvider,
    RequestsAuth,
    Settings,
    TokenVerifier,
    get_token,
    grpc_aio_interceptors,
    grpc_call_credentials,
)
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency
from manor_mcp_interceptors.server.grpc_aio_interceptors import AioMCPAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import MCPAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import MCPTokenBackend, MCPUser
from manor_mcp_interceptors.testing import AuthServer
from tests.support import OTHER_SECRET, SECRET
from tests.support.http_call import get

CLIENTS: list[Callable[..., object]] = [
    GrpcAuthInterceptor,
    Httpx2Auth,
    HttpxAuth,
    RequestsAuth,
    grpc_aio_interceptors,
    grpc_call_credentials,
]
SERVERS: list[Callable[..., object]] = [
    MCPTokenDependency,
    MCPAuthServerInterceptor,
    AioMCPAuthServerInterceptor,
    MCPTokenVerifier,
    MCPTokenBackend,
]


def shown_by_ours() -> dict[str, str]:
    """Return `repr` and `str` of every object alive whose class is this package's."""
    shown: dict[str, str] = {}
    for each in gc.get_objects():
        kind = type(each)
        if str(kind.__module__).startswith("manor_mcp_interceptors"):
            shown[kind.__qualname__] = f"{shown.get(kind.__qualname__, '')} {each!r} {each!s}"
    return shown


@pytest.mark.parametrize("source", ["variable", "file", "code"])
def test_no_object_of_ours_shows_a_secret_or_a_token(
    env_on: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    source: str,
) -> None:
    """Both doors, after a call was made and a token was refused; and all that they hold."""
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", OTHER_SECRET)
    if source == "file":
        file = tmp_path_factory.mktemp("mounted") / "key"
        file.write_text(SECRET)
        monkeypatch.delenv("MCP_AUTH_SECRET")
        monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(file))
    if source == "code":
        settings = Settings(secret=SECRET, previous_secret=OTHER_SECRET)
        MCPTokenProvider.configure(settings=settings, gate=None)
    token = get_token()
    assert token is not None
    verifier = TokenVerifier()
    verified = verifier.verify(token)
    MCPTokenProvider.get_instance().invalidate(token)
    with AuthServer(SECRET) as server:
        get(server, token)
        get(server, "garbage")
        alive = [
            *(make(provider=MCPTokenProvider.get_instance()) for make in CLIENTS),
            *(make(verifier) for make in SERVERS),
            MCPUser(verified),
        ]
        shown = shown_by_ours()
    assert {"MCPTokenProvider", "TokenVerifier", "Decision", "SigningKey"} <= set(shown)
    assert {"HttpxAuth", "RecordedRequest", "VerifiedToken"} <= set(shown)
    assert len(alive) == len(CLIENTS) + len(SERVERS) + 1
    leaks = [
        name
        for name, text in shown.items()
        if any(hidden in text for hidden in (SECRET, OTHER_SECRET, token))
    ]
    assert leaks == []
