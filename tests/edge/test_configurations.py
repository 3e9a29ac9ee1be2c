"""What a configuration may hold, and what the proxy does without its verifier."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest

from tests.cli.running import run as manor_mcp
from tests.support import SECRET

from .cases import REFUSED, Case, bearer
from .deviations import DEVIATIONS
from .grpc_calls import call
from .harness import UNUSED, keys_of_the_table, proxy_and_verifier
from .http_calls import send
from .proxies import KINDS, running, search_path
from .rotating import bearer as metadata
from .table import http_outcome
from .tokens import token
from .upstreams import CASE, Upstreams

SIGNS = """it's "quoted" $HOME ${HOME} \\ \\n # ; { } %[src] @@listen@@ -f ]] --[["""
ANSWERS = {
    "haproxy-forward": (503, "UNAVAILABLE"),
    "nginx-forward": (500, "UNAVAILABLE"),
    "caddy": (502, "UNAVAILABLE"),
    "envoy-forward": (503, "UNAVAILABLE"),
}
"""What a proxy answers while its verifier is gone."""


@pytest.mark.slow
def test_signs_in_a_name_mean_nothing_to_the_proxy(
    name: str, services: Upstreams, tmp_path: Path
) -> None:
    """Issuer and audience are compared as they are, whatever is in them."""
    signs = SIGNS if name == "haproxy" else f"{SIGNS} é漢😀"
    environ = {"MCP_AUTH_SECRET": SECRET, "MCP_AUTH_ISSUER": signs, "MCP_AUTH_AUDIENCE": signs}
    tokens = [
        lambda: token(iss=signs, aud=signs),
        lambda: token(iss=signs, aud=signs.replace("#", "!")),
        lambda: token(iss=signs[:-1], aud=signs),
    ]
    with proxy_and_verifier(name, services, tmp_path, environ) as proxy:
        found = [http_outcome(proxy, services, Case("", bearer(make), "")) for make in tokens]
    other_audience = DEVIATIONS[name].get("another aud", REFUSED)
    assert found == ["service-a", other_audience, REFUSED]


@pytest.mark.slow
def test_a_token_without_iat_is_accepted_if_the_settings_say_so(
    name: str, services: Upstreams, tmp_path: Path
) -> None:
    """`MCP_AUTH_ISSUED_AT=optional`; an `iat` that is there is checked all the same."""
    environ = {"MCP_AUTH_SECRET": SECRET, "MCP_AUTH_ISSUED_AT": "optional"}
    tokens = [lambda: token(iat=...), lambda: token(iat="1"), lambda: token(iat=2_000_000_000)]
    with proxy_and_verifier(name, services, tmp_path, environ) as proxy:
        found = [http_outcome(proxy, services, Case("", bearer(make), "")) for make in tokens]
    assert found == ["service-a", REFUSED, REFUSED]


@pytest.mark.slow
def test_nobody_passes_without_a_verifier(name: str, services: Upstreams, tmp_path: Path) -> None:
    """A proxy that asks answers with an error while nobody answers it."""
    if not KINDS[name].asks:
        return
    with (
        running(
            name,
            tmp_path,
            upstream=services.http,
            grpc_upstream=services.grpc,
            auth=UNUSED,
            environ={},
        ) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
    ):
        case = f"gone-{name}"
        status = send(proxy.http, [*bearer(token)(), (CASE, case)])
        code = call(channel, "Unary", [*metadata(SECRET), (CASE, case)])
    assert services.received(case) == []
    assert (status, code) == ANSWERS[name]


@pytest.mark.slow
def test_the_proxys_own_check(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the configuration, with and without public keys, and no address without a host."""
    monkeypatch.setenv("PATH", os.pathsep.join(search_path()))
    for variable, value in keys_of_the_table(tmp_path).items():
        monkeypatch.setenv(variable, value)
    result = manor_mcp("edge", name, "--check")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.endswith(" accepts it\n")
    assert "warning" not in result.stderr.lower()
    if name.startswith(("haproxy", "nginx")):  # the others resolve names when they run
        result = manor_mcp("edge", name, "--check", "--upstream", "no.such.host.invalid:80")
        assert (result.exit_code, "does not accept it" in result.stderr) == (1, True)
