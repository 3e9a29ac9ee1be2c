"""The client half of this library, through each proxy, after its secret was replaced too late."""

from __future__ import annotations

from pathlib import Path

import grpc
import httpx
import pytest

from manor_mcp_interceptors import GrpcAuthInterceptor, HttpxAuth, MCPTokenProvider, Settings
from tests.support import OTHER_SECRET, SECRET, StaticGate

from .grpc_calls import call
from .harness import SECRETS, proxy_and_verifier
from .proxies import Proxy
from .upstreams import CASE, Upstreams

CANCELLED = ("haproxy", "haproxy-forward")
"""HAProxy 2.6 may end a refused stream as CANCELLED, which does not tell of the token."""


def provider(secret_file: Path) -> MCPTokenProvider:
    """Return a provider that re-reads its secret after a refusal only."""
    settings = Settings(secret_file=secret_file, subject="service-a", recheck_seconds=3600)
    return MCPTokenProvider(settings, gate=StaticGate(on=True))


def replaced_too_late(secret_file: Path) -> MCPTokenProvider:
    """Return a provider with a token that is signed with a retired secret; the file has another."""
    secret_file.write_text(OTHER_SECRET)
    late = provider(secret_file)
    assert late.token() is not None
    secret_file.write_text(SECRET)
    return late


@pytest.mark.slow
def test_a_refusal_renews_the_token(name: str, services: Upstreams, tmp_path: Path) -> None:
    """The call is repeated and the service sees it once; of streams, the next one is accepted."""
    file, case = tmp_path / "secret", f"heal-{name}"
    with proxy_and_verifier(name, services, tmp_path / "proxy", SECRETS) as proxy:
        with httpx.Client(auth=HttpxAuth(provider=replaced_too_late(file))) as client:
            answer = client.post(f"http://{proxy.http}/mcp", headers={CASE: case}, json={})
        assert (answer.status_code, callers(services, case)) == (200, [["service-a"]])
        assert calls(proxy, file, "Unary", f"{case}-unary") == [None, None]
        streams = calls(proxy, file, "Bidi", f"{case}-bidi")
    assert callers(services, f"{case}-unary") == [["service-a"]] * 2
    if streams[0] != "CANCELLED":
        assert (streams, callers(services, f"{case}-bidi")) == (
            ["UNAUTHENTICATED", None],
            [["service-a"]],
        )
    else:
        assert name in CANCELLED


def calls(proxy: Proxy, file: Path, kind: str, case: str) -> list[str | None]:
    """Return how two calls through our interceptor ended, the first with a retired secret."""
    interceptor = GrpcAuthInterceptor(provider=replaced_too_late(file))
    with grpc.insecure_channel(proxy.grpc) as plain:
        channel = grpc.intercept_channel(plain, interceptor)
        return [call(channel, kind, [(CASE, case)]) for _ in range(2)]


def callers(services: Upstreams, case: str) -> list[list[str]]:
    """Return whom the service saw, call by call."""
    return [headers["x-mcp-caller"] for headers in services.received(case)]
