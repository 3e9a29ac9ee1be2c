"""Copies and pickles of adapters, of sessions, and of requests and responses in flight."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
import requests

from manor_mcp_interceptors import MCPTokenProvider, RequestsAuth, Settings
from tests.support import SECRET, StaticGate
from tests.support.http_clients import CLIENTS, SYNC, bearer, call, library_of, make_auth
from tests.support.http_server import HttpServer, ok, redirect, refuse

HTTPX = ["httpx", "httpx2"]
each_client = pytest.mark.parametrize("client", CLIENTS)
each_pickler = pytest.mark.parametrize("pickler", [pickle, cloudpickle])

Copy = Callable[[Any], Any]
COPIES: dict[str, Copy] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "cloudpickle": lambda value: pickle.loads(cloudpickle.dumps(value)),
}
each_copy = pytest.mark.parametrize("name", COPIES)


@pytest.fixture
def provider() -> MCPTokenProvider:
    return MCPTokenProvider(Settings(secret=SECRET), gate=StaticGate())


def assert_no_secret(data: bytes, token: str | None) -> None:
    assert token is not None
    for secret in (SECRET, token, token.rpartition(".")[2]):
        assert secret.encode() not in data


@each_client
@each_copy
def test_a_copied_adapter_sends_a_token(
    client: str, name: str, server: HttpServer, env_on: None
) -> None:
    """Used or not, the copy follows the process-wide provider, as its original does."""
    auth = make_auth(client, allowed_hosts=["127.0.0.1"])
    call(client, auth, "GET", server.url)
    call(client, COPIES[name](auth), "GET", server.url)
    assert server.tokens == [bearer(MCPTokenProvider.get_token())] * 2


@each_client
@each_pickler
def test_a_pickled_adapter_holds_no_secret(
    client: str, pickler: Any, server: HttpServer, provider: MCPTokenProvider, env_on: None
) -> None:
    """Neither with the process-wide provider nor with another one."""
    for options in ({}, {"provider": provider}, {"provider": provider, "audience": "other"}):
        auth = make_auth(client, allowed_hosts=["127.0.0.1"], **options)
        call(client, auth, "GET", server.url)
        assert_no_secret(pickler.dumps(auth), (server.tokens[-1] or "").removeprefix("Bearer "))


@each_pickler
def test_a_pickled_session_of_requests_holds_no_secret(
    pickler: Any, server: HttpServer, provider: MCPTokenProvider
) -> None:
    """A session pickles its auth."""
    with requests.Session() as session:
        session.auth = RequestsAuth(provider=provider)
        session.get(server.url)
        data = pickler.dumps(session)
    assert_no_secret(data, provider.token())
    assert isinstance(pickle.loads(data).auth, RequestsAuth)


@pytest.mark.parametrize("client", SYNC)
@pytest.mark.parametrize("rule", [ok, refuse, lambda _: redirect("/elsewhere")])
@each_pickler
def test_a_pickled_response_adds_no_secret(
    client: str, pickler: Any, rule: Any, server: HttpServer, provider: MCPTokenProvider
) -> None:
    """Apart from the header of its request, which the libraries pickle."""
    server.rule = rule
    auth = make_auth(client, provider=provider)
    if client == "requests":
        reply: Any = requests.get(server.url, auth=auth, timeout=5, allow_redirects=False)
        following = reply.next
    else:
        reply = library_of(client).get(server.url, auth=auth)
        following = reply.next_request
    for request in [reply.request, *([following] if following else [])]:
        request.headers.pop("Authorization", None)
    assert_no_secret(pickler.dumps(reply), provider.token())


def test_the_hook_of_a_pickled_response_of_requests_does_nothing(
    server: HttpServer, provider: MCPTokenProvider
) -> None:
    """Not even if the request still has its token."""
    server.rule = refuse
    reply = requests.get(server.url, auth=RequestsAuth(provider=provider), timeout=5)
    restored = pickle.loads(pickle.dumps(reply))
    [hook] = restored.request.hooks["response"]
    assert hook(restored, timeout=5) is restored


@pytest.mark.parametrize("client", HTTPX)
@each_copy
@pytest.mark.parametrize(
    ("target", "has_token"), [("http://a.example/end", True), ("http://b.example/", False)]
)
def test_a_copied_next_request_of_httpx_knows_its_origin(
    client: str, name: str, target: str, has_token: bool, provider: MCPTokenProvider
) -> None:
    """Its token does not leave the origin that redirected it."""
    library, tokens = library_of(client), []

    def answer(request: Any) -> Any:
        tokens.append(request.headers.get("authorization"))
        return library.Response(307 if len(tokens) == 1 else 200, headers={"location": target})

    auth = make_auth(client, provider=provider)
    with library.Client(transport=library.MockTransport(answer), auth=auth) as connected:
        following = connected.get("http://a.example/").next_request
        following.read()
        copied = COPIES[name](following)
        copied.read()  # a copy has no stream, but its content
        connected.send(copied)
    assert tokens == [bearer(provider.token()), bearer(provider.token()) if has_token else None]


@each_copy
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_copied_next_request_of_requests_knows_its_origin(
    name: str, elsewhere: bool, server: HttpServer, provider: MCPTokenProvider
) -> None:
    """Also if the auth is applied to it again."""
    target = "http://b.example/" if elsewhere else f"{server.url}/end"
    server.rule = lambda _: redirect(target)
    auth = RequestsAuth(provider=provider)
    reply = requests.get(server.url, auth=auth, timeout=5, allow_redirects=False)
    copied = COPIES[name](reply.next)
    copied.prepare_auth(auth)
    has_token = copied.headers.get("Authorization") == bearer(provider.token())
    assert has_token is not elsewhere
