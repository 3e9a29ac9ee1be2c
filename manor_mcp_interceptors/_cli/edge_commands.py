"""The commands for proxies: ``edge`` and ``serve-auth``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from manor_mcp_interceptors._optional import MissingExtraError
from manor_mcp_interceptors.errors import SettingsError

from .edge.addresses import Address, Addresses
from .edge.command import check_it, show, write_to
from .edge.configurations import NAMES as EDGE_NAMES
from .edge.proxy_check import CheckResult
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
Check = Annotated[
    bool, typer.Option("--check", help="Let the proxy check them, if it is installed.")
]


def _address(words: str) -> Any:
    return typer.Option(metavar="HOST:PORT", help=words)


def edge(
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(EDGE_NAMES) + ".")],
    listen: Annotated[str, _address("The proxy listens here, for HTTP.")] = "127.0.0.1:8080",
    grpc_listen: Annotated[str, _address("The same for gRPC.")] = "127.0.0.1:8081",
    upstream: Annotated[str, _address("The HTTP service.")] = "127.0.0.1:8000",
    grpc_upstream: Annotated[str, _address("The gRPC service.")] = "127.0.0.1:50051",
    auth: Annotated[str, _address("The verifier that it asks: serve-auth.")] = "127.0.0.1:9191",
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files to this folder.")
    ] = None,
    check: Check = False,  # noqa: FBT002
) -> None:
    """Print the configuration of a proxy that verifies tokens.

    It is made from the settings in force, and refers to secrets by the names of
    their variables or files. haproxy, nginx and envoy verify tokens themselves;
    the others ask a verifier, `manor-mcp serve-auth`. See docs/edge.md.
    """
    if name not in EDGE_NAMES:
        raise wrong_usage(f"{name!r} is none of {', '.join(EDGE_NAMES)}", "NAME")
    addresses = Addresses(
        listen=_parsed(listen, "--listen"),
        grpc_listen=_parsed(grpc_listen, "--grpc-listen"),
        upstream=_parsed(upstream, "--upstream"),
        grpc_upstream=_parsed(grpc_upstream, "--grpc-upstream"),
        auth=_parsed(auth, "--auth"),
    )
    try:
        if output is not None:
            for path in write_to(name, addresses, output):
                print_line(f"wrote {path}")
        elif not check:
            show(name, addresses)
        result = check_it(name, addresses) if check else None
    except SettingsError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename} cannot be written: {error.strerror}")
    if result is not None:
        _report(result)


def _report(result: CheckResult) -> None:
    """Report what the proxy said of its configuration."""
    if result.is_good is None:
        fail(f"not checked: {result.binary} is not installed here, or not on the PATH")
    for line in result.output.splitlines():
        print_line(line)
    if not result.is_good:
        fail(f"{result.binary} does not accept it")
    print_line(f"{result.binary} accepts it", "green")


def _parsed(text: str, parameter: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise wrong_usage(str(error), parameter) from None


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
        from .serve_auth import open_server
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
