"""``doctor --grpc`` names the true cause, against real servers."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from manor_mcp_interceptors import TokenVerifier
from manor_mcp_interceptors._cli.demo.servers import serve_grpc
from tests.cli.running import doctor, run
from tests.support import OTHER_SECRET, SECRET
from tests.support.auth_servers import GOOD, METHOD, grpc_server
from tests.support.http_server import Certificate

WITH = "call with the token"
WITHOUT = "call without a token"
OTHER_METHOD = "/acme.Billing/Total"

pytestmark = pytest.mark.usefixtures("env_on")


@pytest.mark.parametrize("method", [METHOD, "/model_context_protocol.Mcp/ListTools"])
def test_all_is_well(method: str) -> None:
    """Refused without a token, served with it, for each of the usual services."""
    with grpc_server(GOOD, method=method) as target:
        found = doctor("--grpc", target)
    assert (found.exit_code, found.cause) == (0, None)
    assert found.conclusion == "The server accepted the token."
    assert "UNAUTHENTICATED" in found.checks[WITHOUT]["finding"]
    assert "OK: the server accepts the token" in found.checks[WITH]["finding"]


def test_the_search_service_itself() -> None:
    """The real servicer, which accepts an empty message."""
    with serve_grpc(TokenVerifier(GOOD)) as server:
        assert doctor("--grpc", server.target).exit_code == 0
    with serve_grpc(TokenVerifier(replace(GOOD, secret=OTHER_SECRET))) as server:
        assert "another secret" in doctor("--grpc", server.target).finding


def test_another_secret() -> None:
    """The fingerprint is there to compare."""
    with grpc_server(replace(GOOD, secret=OTHER_SECRET)) as target:
        found = doctor("--grpc", target)
    assert (found.exit_code, found.cause) == (1, WITH)
    assert "UNAUTHENTICATED: the server holds another secret" in found.finding


def test_another_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default one is tried."""
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "wrong-mcp")
    with grpc_server(GOOD) as target:
        found = doctor("--grpc", target)
    assert "expects the audience 'service-search-mcp', not 'wrong-mcp'" in found.finding


@pytest.mark.parametrize(
    ("ahead", "word"),
    [(-120.0, "the server's clock is behind"), (4000.0, "or a clock ahead of this host's")],
)
def test_the_clock_is_off(ahead: float, word: str) -> None:
    """There is no Date in gRPC; an earlier-dated token is what the server takes."""
    with grpc_server(GOOD, ahead=ahead) as target:
        found = doctor("--grpc", target)
    assert word in found.finding


def test_the_previous_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host has rotated already, the server has not."""
    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", SECRET)
    with grpc_server(GOOD) as target:
        assert "accepts only the previous secret" in doctor("--grpc", target).finding


def test_server_without_auth() -> None:
    """It serves anybody: a warning, since calls do work."""
    with grpc_server(None) as target:
        found = doctor("--grpc", target)
    assert (found.exit_code, found.checks[WITHOUT]["state"]) == (0, "warning")


def test_server_down() -> None:
    """Nobody listens."""
    with grpc_server(GOOD) as target:
        pass
    found = doctor("--grpc", target)
    assert (found.exit_code, found.cause) == (1, "server")
    assert "UNAVAILABLE" in found.finding


def test_tls_where_there_is_none() -> None:
    """The handshake fails, and the fix asks for it."""
    with grpc_server(GOOD) as target:
        found = doctor("--grpc", target, "--tls")
    assert found.cause == "server"
    assert "--tls" in found.fix


def test_a_private_ca(tmp_path: Path) -> None:
    """The variable is named that gRPC reads."""
    pem = Certificate.make(tmp_path).path.read_bytes()
    key, certificate = pem.split(b"-----END PRIVATE KEY-----\n")
    key += b"-----END PRIVATE KEY-----\n"
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        credentials = grpc.ssl_server_credentials([(key, certificate)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        found = doctor("--grpc", f"127.0.0.1:{port}", "--tls")
        server.stop(None).wait()
    assert found.cause == "server"
    assert "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in found.fix


def test_a_method_may_be_named() -> None:
    """An unknown service shows nothing about the token; with --method it does."""
    with grpc_server(GOOD, method=OTHER_METHOD) as target:
        found = doctor("--grpc", target)
        assert (found.exit_code, found.checks[WITH]["state"]) == (0, "warning")
        assert found.checks[WITH]["finding"].startswith("nothing was tested")
        assert "--method /package.Service/Method" in found.checks[WITH]["fix"]
        found = doctor("--grpc", target, "--method", OTHER_METHOD)
    assert (found.exit_code, found.checks[WITH]["state"]) == (0, "ok")


def test_without_grpcio(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "grpc", None)
    found = doctor("--grpc", "127.0.0.1:1")
    assert (found.exit_code, found.cause) == (1, "gRPC")
    assert "manor-mcp-interceptors[grpc]" in found.fix


def test_no_secret_and_no_token_is_shown() -> None:
    """Neither the real token nor one that is tried."""
    with grpc_server(replace(GOOD, secret=OTHER_SECRET)) as target:
        output = run("doctor", "--grpc", target).output
    assert SECRET not in output
    assert "eyJ" not in output


def test_a_token_that_the_server_sends_back_is_not_shown() -> None:
    """Not even in the details of a status."""

    class Reflecting(grpc.ServerInterceptor):  # type: ignore[type-arg]
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            values = [value for key, value in details.invocation_metadata if key == "authorization"]

            def abort(_: bytes, context: Any) -> None:
                if values:
                    context.abort(grpc.StatusCode.PERMISSION_DENIED, f"no scope for {values[0]}")
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

            return grpc.unary_unary_rpc_method_handler(abort)

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, interceptors=[Reflecting()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        output = run("doctor", "--grpc", f"127.0.0.1:{port}").output
        server.stop(None).wait()
    assert "no scope for Bearer <token>" in output
    assert "eyJ" not in output
