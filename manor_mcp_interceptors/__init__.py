"""Short-lived JWTs on outbound MCP calls, and their verification on the server.

The core is imported at once and needs nothing but the standard library. Each adapter is
imported when its name is first used, so that this package imports no transport, no framework
and no PyJWT by itself (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import MCPAuthError, SettingsError, TokenRejectedError, TokenUnavailableError
from .outcomes import Outcome, TokenStatus
from .protocols import Clock, Gate, TokenSource
from .provider import MCPTokenProvider, diagnose, get_auth_headers, get_token, is_enabled
from .settings import Settings

if TYPE_CHECKING:
    from ._flags.openfeature_gate import OpenFeatureGate
    from .client.aiohttp_middleware import AiohttpAuth
    from .client.grpc_aio_channel import grpc_aio_authenticated_channel
    from .client.grpc_aio_interceptors import grpc_aio_interceptors
    from .client.grpc_call_credentials import grpc_call_credentials
    from .client.grpc_channel import grpc_authenticated_channel
    from .client.grpc_interceptors import GrpcAuthInterceptor
    from .client.httpx2_auth import Httpx2Auth
    from .client.httpx_auth import HttpxAuth
    from .client.mcp_http import mcp_auth, mcp_http_client
    from .client.requests_auth import RequestsAuth
    from .server.reasons import Reason
    from .server.verifier import TokenVerifier, VerifiedToken

__all__ = [
    "AiohttpAuth",
    "Clock",
    "Gate",
    "GrpcAuthInterceptor",
    "Httpx2Auth",
    "HttpxAuth",
    "MCPAuthError",
    "MCPTokenProvider",
    "OpenFeatureGate",
    "Outcome",
    "Reason",
    "RequestsAuth",
    "Settings",
    "SettingsError",
    "TokenRejectedError",
    "TokenSource",
    "TokenStatus",
    "TokenUnavailableError",
    "TokenVerifier",
    "VerifiedToken",
    "__version__",
    "diagnose",
    "get_auth_headers",
    "get_token",
    "grpc_aio_authenticated_channel",
    "grpc_aio_interceptors",
    "grpc_authenticated_channel",
    "grpc_call_credentials",
    "is_enabled",
    "mcp_auth",
    "mcp_http_client",
]

_LAZY = {
    "AiohttpAuth": "client.aiohttp_middleware",
    "GrpcAuthInterceptor": "client.grpc_interceptors",
    "Httpx2Auth": "client.httpx2_auth",
    "HttpxAuth": "client.httpx_auth",
    "OpenFeatureGate": "_flags.openfeature_gate",
    "Reason": "server.reasons",
    "RequestsAuth": "client.requests_auth",
    "TokenVerifier": "server.verifier",
    "VerifiedToken": "server.verifier",
    "grpc_aio_authenticated_channel": "client.grpc_aio_channel",
    "grpc_aio_interceptors": "client.grpc_aio_interceptors",
    "grpc_authenticated_channel": "client.grpc_channel",
    "grpc_call_credentials": "client.grpc_call_credentials",
    "mcp_auth": "client.mcp_http",
    "mcp_http_client": "client.mcp_http",
}

__version__: str


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # include the lazy names


def __getattr__(name: str) -> object:
    if name == "__version__":
        from ._telemetry.otel import package_version

        return package_version()
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        value: object = getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as missing:  # an extra, or PyJWT
        return _unavailable(name, str(missing), missing.name)
    globals()[name] = value  # from now on without this function
    return value


def _unavailable(name: str, instruction: str, library: str | None) -> object:
    """Return what stands for a name whose library is not installed: calling it names what is.

    `hasattr`, `help`, ``import *`` and `inspect.getmembers` read every name, so reading must not
    raise.
    """

    def fail(*_: object, **__: object) -> object:
        raise ModuleNotFoundError(instruction, name=library)

    return type(name, (), {"__doc__": instruction, "__new__": fail, "__module__": __name__})
