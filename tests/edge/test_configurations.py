"""What a configuration may hold, and what the proxy does without its verifier."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest

from tests.cli.running import run as manor_mcp
from tests.docs.pages import example, names, rows
from tests.support import SECRET
from tests.support.auth_process import serve_auth

from .cases import REFUSED, Case, bearer
from .deviations import DEVIATIONS
from .grpc_calls import call
from .harness import UNUSED, keys_of_the_table, proxy_and_verifier
from .http_calls import send, send_one_after_another
from .proxies import KINDS, running, search_path
from .rotating import bearer as metadata
from .table import http_outcome
from .tokens import token
from .upstreams import CASE, EVENTS, Upstreams

SIGNS = """it's "quoted" $HOME ${HOME} \\ \\n # ; { } %[src] @@listen@@ -f ]] --[["""
ANSWERS = {
    "haproxy-forward": (503, 503),
    "nginx-forward": (500, 500),
    "caddy": (502, 504),
    "envoy-forward": (503, 503),
}
"""What a proxy answers if nobody listens at its verifier's address, and if nobody answers there."""


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
def test_answers_pass_as_they_come(name: str, services: Upstreams, tmp_path: Path) -> None:
    """An event reaches the client before the next one is sent; a 401 has a challenge."""
    headers = dict(bearer(token)())
    with (
        proxy_and_verifier(name, services, tmp_path, {"MCP_AUTH_SECRET": SECRET}) as proxy,
        httpx.Client(base_url=f"http://{proxy.http}") as client,
    ):
        services.more.clear()
        with client.stream("GET", EVENTS, headers=headers) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "data: 1"
            services.more.set()
            assert [line for line in lines if line] == ["data: 2"]
        challenges = [
            client.post("/mcp", headers=sent).headers["WWW-Authenticate"]
            for sent in ({}, {"Authorization": "Bearer e30.e30.e30"})
        ]
    assert [challenge.partition(" ")[0] for challenge in challenges] == ["Bearer", "Bearer"]
    assert ["invalid_token" in challenge for challenge in challenges] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("name", ANSWERS, indirect=True)
def test_nobody_passes_without_a_verifier(
    name: str, hangs: bool, services: Upstreams, tmp_path: Path
) -> None:
    """A proxy that asks answers with an error if nobody listens, and if there is no answer."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running(
            name,
            tmp_path,
            upstream=services.http,
            grpc_upstream=services.grpc,
            auth=f"127.0.0.1:{silent.getsockname()[1]}" if hangs else UNUSED,
            environ={},
        ) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
    ):
        case = f"gone-{name}-{hangs}"
        status = send(proxy.http, [*bearer(token)(), (CASE, case)])
        code = call(channel, "Unary", [*metadata(SECRET), (CASE, case)])
    assert services.received(case) == []
    assert (status, code) == (ANSWERS[name][hangs], "UNAVAILABLE")


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


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_no_tunnel_to_the_service(
    name: str, mode: str, services: Upstreams, tmp_path: Path
) -> None:
    """After a CONNECT that a service accepts, a caller would write to it directly."""
    case = f"tunnel-{name}-{mode}"
    headers = f"Host: service\r\n{CASE}: {case}\r\n"
    first = f"CONNECT service:80 HTTP/1.1\r\n{headers}Authorization: Bearer {token()}\r\n\r\n"
    last = f"GET /mcp HTTP/1.1\r\n{headers}X-MCP-Caller: mallory\r\nConnection: close\r\n\r\n"
    environ = {"MCP_AUTH_SECRET": SECRET, "MCP_AUTH_ENFORCEMENT": mode}
    with proxy_and_verifier(name, services, tmp_path, environ) as proxy:
        answer = send_one_after_another(proxy.http, first.encode(), last.encode())
    assert int(answer.split()[1]) >= 400
    assert [call.get("x-mcp-caller", [""]) for call in services.received(case)] in ([], [[""]])


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERS, indirect=True)
def test_the_verifiers_log_names_the_address_of_the_caller(
    name: str, services: Upstreams, tmp_path: Path
) -> None:
    """In observe mode; what the caller writes in `X-Forwarded-For` is not taken for it."""
    observe = {"MCP_AUTH_SECRET": SECRET, "MCP_AUTH_ENFORCEMENT": "observe"}
    with serve_auth(environment=observe) as verifier:
        with running(
            name,
            tmp_path,
            upstream=services.http,
            grpc_upstream=services.grpc,
            auth=verifier.url.removeprefix("http://"),
            environ={},
        ) as proxy:
            send(proxy.http, [("X-Forwarded-For", "192.0.2.66"), ("X-Real-IP", "192.0.2.66")])
        _, log = verifier.stop()
    assert "192.0.2.66" not in log
    assert "from " in log


NEW = ("MCP-Protocol-Version", "2026-07-28")
TOOLS = {
    "lists": [NEW, ("Mcp-Method", "tools/list")],
    "its tool": [NEW, ("Mcp-Method", "tools/call"), ("Mcp-Name", "search")],
    "another tool": [NEW, ("Mcp-Method", "tools/call"), ("Mcp-Name", "delete")],
    "two tools": [
        NEW,
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "delete"),
        ("Mcp-Name", "search"),
    ],
    "no tool": [NEW, ("Mcp-Method", "tools/call")],
    "no method": [NEW, ("Mcp-Name", "search")],
    "two methods": [NEW, ("Mcp-Method", "tools/call"), ("Mcp-Method", "tools/list")],
    "no version": [("Mcp-Method", "tools/list")],
    "old version": [("MCP-Protocol-Version", "2025-11-25"), ("Mcp-Method", "tools/list")],
    "two versions": [("MCP-Protocol-Version", "2025-11-25"), NEW, ("Mcp-Method", "tools/list")],
}
RULES = {
    "haproxy": ("Rules in HAProxy", "    use_backend mcp_grpc if is_grpc\n"),
    "haproxy-forward": ("Rules in HAProxy", "    use_backend mcp_grpc if is_grpc\n"),
    "caddy": ("Rules in Caddy", "\t\treverse_proxy "),
}
"""The example in docs/edge.md, and the line before which the page says to put it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES, indirect=True)
def test_the_rules_for_callers_and_tools(name: str, services: Upstreams, tmp_path: Path) -> None:
    """As the page has them: who may call which tool, in the version that has these headers."""
    heading, line = RULES[name]
    rules = example("docs/edge.md", heading, language="")
    with proxy_and_verifier(
        name,
        services,
        tmp_path,
        {"MCP_AUTH_SECRET": SECRET},
        edit=lambda text: text.replace(line, f"{rules}\n{line}", 1),
    ) as proxy:
        found = {
            subject: {
                case: http_outcome(
                    proxy, services, Case("", bearer(partial(token, sub=subject), *headers), "")
                )
                for case, headers in TOOLS.items()
            }
            for subject in ("service-a", "service-admin", "service-b")
        }
    refused = dict.fromkeys(TOOLS, "403")
    assert found == {
        "service-a": {**refused, "lists": "service-a", "its tool": "service-a"},
        "service-admin": {
            **refused,
            **dict.fromkeys(("lists", "its tool", "another tool"), "service-admin"),
        },
        "service-b": {**refused, "lists": "service-b"},
    }


def test_the_page_lists_the_deviations_as_measured() -> None:
    """Each case with each configuration's outcome, and what is answered without a verifier."""
    listed: dict[str, dict[str, str]] = {name: {} for name in KINDS}
    for case, _, configurations, outcome in rows("docs/edge.md", "Where they differ"):
        for name in names([configurations]):
            listed[name][case] = outcome.replace("`", "")
    assert listed == DEVIATIONS
    answers = {
        names([name])[0]: (int(gone), int(silent))
        for name, gone, silent in rows("docs/edge.md", "When the verifier is away")
    }
    assert answers == ANSWERS
