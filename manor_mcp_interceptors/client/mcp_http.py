"""The auth object and the HTTP client for the installed `mcp` SDK, 1.x or 2.x."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from typing import Any, Final

from manor_mcp_interceptors._optional import MissingExtraError
from manor_mcp_interceptors.provider import MCPTokenProvider

__all__ = ["mcp_auth", "mcp_http_client"]

TIMEOUT: Final = 30.0
"""Seconds to connect, to send, and to wait for a free connection: the SDK's own."""
READ_TIMEOUT: Final = 300.0
"""Seconds until the next part of a response: a tool may take long. The SDK's own."""


def mcp_auth(
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
    allowed_hosts: Iterable[str] | str | None = None,
) -> Any:
    """Return the auth object that the installed `mcp` SDK speaks.

    Args:
        provider: None is the process-wide one.
        audience: The server's `aud`; None is the configured one.
        required: Raise `TokenUnavailableError` instead of sending a request without a token.
        allowed_hosts: Hosts that a token may go to; None leaves it to ``MCP_AUTH_ALLOWED_HOSTS``.

    Returns:
        An `HttpxAuth` for mcp 1.x, an `Httpx2Auth` for mcp 2.x. Its type is `Any`, because a type
        checker cannot know which.

    Raises:
        ModuleNotFoundError: `mcp` is not installed.
        SettingsError: `audience` or `allowed_hosts` is malformed.
    """
    if http_library("mcp_auth") == "httpx2":
        from .httpx2_auth import Httpx2Auth as Auth
    else:
        from .httpx_auth import HttpxAuth as Auth  # type: ignore[assignment]
    return Auth(
        provider=provider, audience=audience, required=required, allowed_hosts=allowed_hosts
    )


def mcp_http_client(
    headers: Mapping[str, str] | None = None,
    timeout: Any = None,
    auth: Any = None,
    *,
    provider: MCPTokenProvider | None = None,
    audience: str | None = None,
    required: bool = False,
    allowed_hosts: Iterable[str] | str | None = None,
    **options: Any,
) -> Any:
    """Return an `AsyncClient` of the library that the installed `mcp` SDK speaks, with our auth.

    It is what ``streamable_http_client(url, http_client=...)`` takes, and the function itself is
    what ``httpx_client_factory=`` takes. Use it as a context manager, so that it is closed.

    Args:
        headers: Sent with every request.
        timeout: Seconds, or the library's `Timeout`; None is the SDK's own: 30 s, and 300 s for
            a read. The library's default of 5 s would end a session at the first slow tool.
        auth: Another auth object; the next four arguments then have no effect.
        provider: As for `mcp_auth`, like the next three.
        audience: The server's `aud`; None is the configured one.
        required: Raise `TokenUnavailableError` instead of sending a request without a token.
        allowed_hosts: Hosts that a token may go to.
        options: Any other argument of `AsyncClient`: ``verify=``, ``proxy=``, ``event_hooks=``.

    Raises:
        ModuleNotFoundError: `mcp` is not installed.
        SettingsError: `audience` or `allowed_hosts` is malformed.
    """
    library = import_module(http_library("mcp_http_client"))
    # Up to mcp 1.29 and 2.1 the SDK's client follows redirects. Later transports follow those of
    # the same origin themselves, and ignore this.
    options.setdefault("follow_redirects", True)
    return library.AsyncClient(
        headers=headers,
        timeout=library.Timeout(TIMEOUT, read=READ_TIMEOUT) if timeout is None else timeout,
        auth=auth
        or mcp_auth(
            provider=provider, audience=audience, required=required, allowed_hosts=allowed_hosts
        ),
        **options,
    )


def http_library(user: str) -> str:
    """Return the name of the HTTP library that the installed `mcp` SDK requires.

    The version alone does not tell: the first pre-releases of 2.0 required httpx.

    Args:
        user: The public name that an error names.

    Raises:
        MissingExtraError: `mcp` is not installed.
    """
    try:
        requirements = requires("mcp") or []
    except PackageNotFoundError:
        extras = "'manor-mcp-interceptors[mcp]', or [fastmcp] for FastMCP"
        raise MissingExtraError(f"{user} needs mcp: pip install {extras}", name="mcp") from None
    return "httpx2" if any(line.startswith("httpx2") for line in requirements) else "httpx"
