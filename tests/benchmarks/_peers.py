"""Other libraries, each set up with a cached token that is valid for an hour.

Loaded by name: they are no dependency, and half of them have no types.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from ._harness import Run, calls

URL = "https://mcp.example.com/mcp"
HOUR = 3600


def authlib(token: str) -> Run:
    """Return what its OAuth2 clients do per request: is the token active, then the header."""
    client_module = import_module("authlib.oauth2.client")
    auth_module = import_module("authlib.oauth2.auth")
    fields = {"access_token": token, "token_type": "bearer", "expires_at": int(time.time()) + HOUR}
    client = client_module.OAuth2Client(session=SimpleNamespace(), token=fields)
    auth = auth_module.TokenAuth(fields)

    def header() -> None:
        client.ensure_active_token(client.token)
        auth.prepare(URL, {}, "")

    return calls(header)


def authlib_check(token: str) -> Run:
    """Return its check alone: is the token active, without a header."""
    wrappers = import_module("authlib.oauth2.rfc6749.wrappers")
    fields = {"access_token": token, "expires_at": int(time.time()) + HOUR}
    held = wrappers.OAuth2Token(fields)

    def get() -> Any:
        return None if held.is_expired() else held["access_token"]

    return calls(get)


def azure_core(token: str) -> Run:
    """Return what its bearer policy does on a request."""
    credentials = import_module("azure.core.credentials")
    policies = import_module("azure.core.pipeline.policies")
    pipeline = import_module("azure.core.pipeline")
    held = credentials.AccessTokenInfo(token, int(time.time()) + HOUR)
    credential = SimpleNamespace(get_token_info=lambda *_, **__: held)
    policy = policies.BearerTokenCredentialPolicy(credential, "scope")
    http_request = SimpleNamespace(url=URL, headers={})
    context = pipeline.PipelineContext(None)
    request = pipeline.PipelineRequest(http_request, context)
    return calls(lambda: policy.on_request(request))


def google_auth(token: str) -> Run:
    """Return what its transports do before a request."""
    oauth2 = import_module("google.oauth2.credentials")
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)  # naive UTC is its habit
    credentials = oauth2.Credentials(token=token, expiry=now + dt.timedelta(seconds=HOUR))
    return calls(lambda: credentials.before_request(None, "POST", URL, {}))


def httpx_auth(token: str) -> Run:
    """Return a look into the cache that all its OAuth2 flows share."""
    tokens = import_module("httpx_auth._oauth2.tokens")
    cache = tokens.TokenMemoryCache()
    cache._add_access_token("key", token, HOUR)
    return calls(lambda: cache.get_token("key"))


def nodii_grpc_auth(token: str) -> Run:
    """Return its token manager's cached answer; it is a coroutine, driven without a loop's turn."""
    client = import_module("nodii_grpc_auth.client")
    types = import_module("nodii_grpc_auth.types")
    manager = nodii_manager(token)
    params = types.GetTokenParams(audience="service-search-mcp", scopes=(), instance_id=None)
    assert isinstance(manager, client.S2STokenManager)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(manager.get_token(params))  # mint, so that the rest is cached
    loop.close()

    def get() -> None:
        try:
            manager.get_token(params).send(None)
        except StopIteration:
            return

    return calls(get)


def nodii_manager(token: str) -> Any:
    """Return its token manager, in front of an issuer that always answers `token`."""
    client = import_module("nodii_grpc_auth.client")
    types = import_module("nodii_grpc_auth.types")

    class Issuer:
        async def issue(self, *_: object) -> Any:
            return types.IssuedToken(token=token, expires_at=int(time.time()) + HOUR)

    return client.S2STokenManager(Issuer())
