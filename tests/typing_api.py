"""One line for each public call, as users write it. Type-checked with the rest, never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import aiohttp
import fastapi
import grpc
import httpx
import httpx2
import requests
from fastmcp import FastMCP
from fastmcp.server.auth import AuthProvider
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import TokenVerifier as MCPProtocol
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from typing_extensions import assert_type

import manor_mcp_interceptors
from manor_mcp_interceptors import (
    AiohttpAuth,
    Clock,
    Gate,
    GrpcAuthInterceptor,
    Httpx2Auth,
    HttpxAuth,
    MCPAuthError,
    MCPTokenProvider,
    OpenFeatureGate,
    Outcome,
    Reason,
    RequestsAuth,
    Settings,
    SettingsError,
    TokenRejectedError,
    TokenSource,
    TokenStatus,
    TokenUnavailableError,
    TokenVerifier,
    VerifiedToken,
    diagnose,
    get_auth_headers,
    get_token,
    grpc_aio_authenticated_channel,
    grpc_aio_interceptors,
    grpc_authenticated_channel,
    grpc_call_credentials,
    is_enabled,
    mcp_auth,
    mcp_http_client,
)
from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware
from manor_mcp_interceptors.server.fastapi_dependency import (
    MCPAdmissionDependency,
    MCPTokenDependency,
    admit_mcp_token,
    verify_mcp_token,
)
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.forward_auth import ForwardAuth
from manor_mcp_interceptors.server.forward_auth import app as forward_auth_app
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import (
    GrpcAuthServerInterceptor,
    current_caller,
)
from manor_mcp_interceptors.server.mcp_middleware import MCPAuthMiddleware
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import MCPUser, TokenAuthBackend, on_auth_error
from manor_mcp_interceptors.stats import ProcessStats, ProviderStats, VerifierStats, process_stats
from manor_mcp_interceptors.testing import (
    AuthServer,
    FakeClock,
    KeyAlgorithm,
    KeyPair,
    RecordedRequest,
    StaticGate,
    auth_off,
    auth_on,
    auth_variables,
    isolated_auth,
    isolated_provider,
    new_secret,
    our_variables,
)

# The core
assert_type(manor_mcp_interceptors.__version__, str)
assert_type(get_token(), str | None)
assert_type(get_token("other-mcp"), str | None)
assert_type(get_auth_headers(audience="other-mcp"), dict[str, str])
assert_type(is_enabled(), bool)
clock: Clock = FakeClock()
assert_type(diagnose(), TokenStatus)
assert_type(diagnose().outcome, Outcome)
assert_type(diagnose().seconds_to_expiry, float | None)

settings = Settings(secret="s", audience="a", ttl_seconds=60, allowed_hosts=("a.example",))
assert_type(Settings.from_env(), Settings)
assert_type(Settings.from_env({"MCP_AUTH_SECRET": "s"}), Settings)
gate: Gate = OpenFeatureGate()
provider = MCPTokenProvider(settings, gate=gate, clock=FakeClock())
assert_type(MCPTokenProvider.get_instance(), MCPTokenProvider)
assert_type(MCPTokenProvider.get_instance("other-mcp"), MCPTokenProvider)
assert_type(MCPTokenProvider.get_token(), str | None)
assert_type(MCPTokenProvider.get_auth_headers(), dict[str, str])
MCPTokenProvider.configure(settings=settings, gate=StaticGate(), clock=FakeClock())


async def fetch(audience: str) -> str | None: ...


source: TokenSource = fetch
MCPTokenProvider.configure(token_source=source)
MCPTokenProvider(token_source=lambda audience: f"token for {audience}")
MCPTokenProvider.reset()
assert_type(provider.for_audience("other-mcp"), MCPTokenProvider)
assert_type(provider.token(), str | None)
assert_type(provider.headers(), dict[str, str])
assert_type(provider.status(), TokenStatus)
assert_type(provider.stats(), ProviderStats)
assert_type(process_stats(), ProcessStats)
provider.invalidate("token")


async def tokens() -> None:
    assert_type(await provider.token_async(), str | None)


try:
    get_token()
except SettingsError as error:
    assert_type(error.variable, str)
except TokenUnavailableError as error:
    assert_type(error.outcome, Outcome)
except TokenRejectedError as error:
    assert_type(error.reason, str)
except (MCPAuthError, ValueError):
    pass

# The client door
session = requests.Session()
session.auth = RequestsAuth(provider=provider, audience="a", required=True, allowed_hosts=["h"])
requests.get("http://localhost", auth=RequestsAuth(), timeout=5)
httpx.Client(auth=HttpxAuth(provider=provider, audience="a", required=True, allowed_hosts=["h"]))
httpx.AsyncClient(auth=HttpxAuth())
httpx2.Client(auth=Httpx2Auth(provider=provider, audience="a", required=True, allowed_hosts=["h"]))
httpx2.AsyncClient(auth=Httpx2Auth())
of_aiohttp = AiohttpAuth(provider=provider, audience="a", required=True, allowed_hosts=["h"])
aiohttp.ClientSession(middlewares=(of_aiohttp, AiohttpAuth()))
httpx2.AsyncClient(auth=mcp_auth(provider=provider, audience="a", required=True, allowed_hosts="h"))
streamable_http_client("http://localhost", http_client=mcp_http_client({"a": "b"}, 5.0, mcp_auth()))
sse_client("http://localhost", httpx_client_factory=mcp_http_client)
channel = grpc.insecure_channel("localhost:1")
grpc.intercept_channel(channel, GrpcAuthInterceptor(provider=provider, audience="a", required=True))
grpc_authenticated_channel(channel, provider=provider, audience="a", required=True).close()
grpc_aio_authenticated_channel(
    grpc.aio.insecure_channel("localhost:1"), provider=provider, audience="a", required=True
).get_state()
grpc.aio.insecure_channel(
    "localhost:1",
    interceptors=grpc_aio_interceptors(provider=provider, audience="a", required=True),
)
grpc.composite_channel_credentials(
    grpc.ssl_channel_credentials(),
    grpc_call_credentials(provider=provider, audience="a", required=True),
)

# The server door
Settings(enforcement="observe", enforcement_flag="enforce-tokens")
Settings(enforcement="observ")  # type: ignore[arg-type]
verifier = TokenVerifier(
    settings,
    leeway_seconds=1,
    allowed_subjects=["s"],
    required_scopes=["search:read"],
    clock=FakeClock(),
)
TokenVerifier(settings, other_issuers=True, gate=StaticGate())
assert_type(TokenVerifier.from_env(), TokenVerifier)
assert_type(verifier.verify("token"), VerifiedToken)
assert_type(verifier.verify("token").subject, str)
assert_type(verifier.verify("token").scopes, tuple[str, ...])
assert_type(verifier.verify("token").claims, Mapping[str, Any])
assert_type(verifier.rejections(), dict[str, int])
assert_type(verifier.stats(), VerifierStats)
assert_type(verifier.stats().observed, Mapping[str, int])
assert_type(verifier.stats().other_issuers, int)
assert_type(verifier.stats().by_key, Mapping[str, int])
assert_type(Reason("missing").value, str)

app = fastapi.FastAPI(dependencies=[fastapi.Depends(MCPTokenDependency(verifier))])


@app.get("/")
async def read(caller: Annotated[VerifiedToken, fastapi.Depends(verify_mcp_token)]) -> str:
    return caller.subject


@app.get("/write")
async def write(
    caller: Annotated[VerifiedToken, fastapi.Security(verify_mcp_token, scopes=["search:write"])],
) -> str:
    return caller.subject


app = fastapi.FastAPI(dependencies=[fastapi.Depends(MCPAdmissionDependency(verifier))])


@app.get("/")
async def admit(
    caller: Annotated[VerifiedToken | None, fastapi.Depends(admit_mcp_token)],
) -> str:
    return "nobody" if caller is None else caller.subject


async def nobody_is_taken_for_a_caller(connection: HTTPConnection) -> None:
    assert_type(await verify_mcp_token(connection), VerifiedToken)
    assert_type(await admit_mcp_token(connection), VerifiedToken | None)
    (await admit_mcp_token(connection)).subject  # type: ignore[union-attr]  # noqa: B018
    current_caller().subject  # type: ignore[union-attr]  # noqa: B018
    caller: VerifiedToken = await admit_mcp_token(connection)  # type: ignore[assignment]
    caller = current_caller()  # type: ignore[assignment]
    del caller


app.add_middleware(TokenAuthMiddleware, verifier=verifier, exempt=["/health", "/public/*"])
app.add_middleware(MCPAuthMiddleware, verifier=verifier, exempt=["/health"])
Starlette(middleware=[Middleware(TokenAuthMiddleware, exempt=["/health"])])
TokenAuthMiddleware(app)
ForwardAuth(verifier, required_scopes=["search:read"], health_port=9192)
Starlette(routes=[Mount("/auth", forward_auth_app)])
TokenAuthMiddleware(TokenAuthMiddleware(Starlette(), verifier=None), exempt=())
MCPAuthMiddleware(MCPServer("search").streamable_http_app(), verifier=verifier)
MCPAuthMiddleware(FastMCP("search").http_app())

Starlette(
    middleware=[
        Middleware(
            AuthenticationMiddleware,
            backend=TokenAuthBackend(verifier, required=False, required_scopes=["a"]),
            on_error=on_auth_error,
        )
    ]
)
assert_type(MCPUser(verifier.verify("token")).token, VerifiedToken)
grpc.server(None, interceptors=[GrpcAuthServerInterceptor(verifier, exempt=["/a.B/C"])])  # type: ignore[arg-type]
grpc.aio.server(interceptors=[GrpcAioAuthServerInterceptor(verifier, exempt=["/a.B/C"])])
assert_type(current_caller(), VerifiedToken | None)
protocol: MCPProtocol = MCPTokenVerifier(
    verifier, resource="https://mcp.example", required_scopes=["a"]
)
auth: AuthProvider = FastMCPTokenVerifier(
    verifier, resource="https://mcp.example", required_scopes=["a"]
)

# Stand-ins for tests
with auth_on("secret", clock=FakeClock()) as secret, auth_off() as other:
    assert_type(secret, str)
    assert_type(other, str)
with isolated_auth(), isolated_provider(), AuthServer(new_secret(), audience="a") as server:
    assert_type(server.url, str)
    assert_type(server.last, RecordedRequest)
    assert_type(server.requests, list[RecordedRequest])
    server.refuse(times=2)
    server.reply = {"results": []}
assert_type(auth_variables("secret", on=False), dict[str, str])
algorithm: KeyAlgorithm = "RS256"
with auth_on(algorithm="HS256") as secret, auth_on(algorithm=algorithm, clock=FakeClock()) as key:
    assert_type(secret, str)
    assert_type(key, KeyPair)
    AuthServer(key, audience="a")
    assert_type(auth_variables(key), dict[str, str])
auth_on("secret", algorithm="ES256")  # type: ignore[call-overload]
pair = KeyPair.create("folder", "EdDSA", subjects=["a"])
Settings(private_key_file=pair.private_key_file, jwks_file=pair.jwks_file, key_id=pair.key_id)
assert_type(our_variables(), frozenset[str])
