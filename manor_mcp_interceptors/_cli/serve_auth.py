"""The command ``serve-auth``."""

from __future__ import annotations

from typing import Annotated

import typer

from manor_mcp_interceptors._optional import MissingExtraError
from manor_mcp_interceptors.errors import SettingsError

from .output import fail, print_line, wrong_usage

AuthHost = Annotated[
    str, typer.Option("--host", metavar="HOST", help="The address that proxies connect to.")
]
AuthPort = Annotated[
    int,
    typer.Option(
        "--port", metavar="N", min=0, max=65_535, help="The port that proxies ask; 0 is any free."
    ),
]
HealthPort = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=65_535,
        help="The port of /healthz and /readyz, which no proxy may ask for a caller.",
    ),
]
Workers = Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Processes that verify.")]
RequiredScopes = Annotated[
    list[str] | None,
    typer.Option(
        "--required-scope", metavar="SCOPE", help="A scope that every token must have; repeatable."
    ),
]


def serve_auth(
    host: AuthHost = "127.0.0.1",
    port: AuthPort = 9191,
    health_port: HealthPort = 9192,
    workers: Workers = 1,
    required_scope: RequiredScopes = None,
) -> None:
    """Verify tokens for a proxy, which asks about each call before it passes it on.

    The answer is 200 with X-MCP-Caller and X-MCP-Scope, or 401 or 403, on every
    path of the port. Without a usable key every token is refused, and /readyz of
    the health port is 503.

    SIGTERM or Ctrl+C ends it when the requests that have begun are answered.
    """
    if port == health_port != 0:
        raise wrong_usage("it is the port that proxies ask; health needs another", "--health-port")
    try:
        from .auth_server import open_server
    except MissingExtraError as missing:
        print_line(str(missing), "red")
        raise typer.Exit(2) from None
    try:
        server = open_server(host, port, health_port, required_scope or ())
    except SettingsError as error:
        raise wrong_usage(str(error), "--required-scope") from None
    except OSError as error:
        fail(str(error.strerror))
    typer.echo(server.line(workers))
    server.run(workers)
