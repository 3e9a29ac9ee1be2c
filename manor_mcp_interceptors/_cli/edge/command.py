"""The command ``edge``: print a configuration, write it, have the proxy check it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from manor_mcp_interceptors._cli.files import write_public, write_secret
from manor_mcp_interceptors._cli.output import fail, print_line, wrong_usage
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.settings import Settings

from .addresses import Address, Addresses
from .configurations import NAMES, configuration
from .proxy_check import CheckResult, check
from .rendering import Request


def _address(words: str) -> Any:
    return typer.Option(metavar="HOST:PORT", help=words)


Name = Annotated[str, typer.Argument(metavar="NAME", help=", ".join(NAMES) + ".")]
Listen = Annotated[str, _address("The proxy listens here, for HTTP.")]
GrpcListen = Annotated[str, _address("The same for gRPC.")]
Upstream = Annotated[str, _address("The HTTP service.")]
GrpcUpstream = Annotated[str, _address("The gRPC service.")]
Auth = Annotated[str, _address("The verifier that it asks: serve-auth.")]
Output = Annotated[Path | None, typer.Option(metavar="DIR", help="Write the files to this folder.")]
Check = Annotated[
    bool, typer.Option("--check", help="Let the proxy check them, if it is installed.")
]


def edge(
    name: Name,
    listen: Listen = "127.0.0.1:8080",
    grpc_listen: GrpcListen = "127.0.0.1:8081",
    upstream: Upstream = "127.0.0.1:8000",
    grpc_upstream: GrpcUpstream = "127.0.0.1:50051",
    auth: Auth = "127.0.0.1:9191",
    output: Output = None,
    check: Check = False,  # noqa: FBT002 - an option, as typer wants it
) -> None:
    """Print the configuration of a proxy that verifies tokens.

    It is made from the settings in force, and refers to secrets by the names of
    their variables or files. haproxy, nginx and envoy verify tokens themselves;
    the others ask a verifier, `manor-mcp serve-auth`. See docs/edge.md.
    """
    if name not in NAMES:
        raise wrong_usage(f"{name!r} is none of {', '.join(NAMES)}", "NAME")
    addresses = Addresses(
        listen=_parsed(listen, "--listen"),
        grpc_listen=_parsed(grpc_listen, "--grpc-listen"),
        upstream=_parsed(upstream, "--upstream"),
        grpc_upstream=_parsed(grpc_upstream, "--grpc-upstream"),
        auth=_parsed(auth, "--auth"),
    )
    try:
        if output is not None:
            for path in _write(name, addresses, output):
                print_line(f"wrote {path}")
        elif not check:
            _show(name, addresses)
        if check:
            _report(_checked(name, addresses))
    except SettingsError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename} cannot be written: {error.strerror}")


def _parsed(text: str, parameter: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise wrong_usage(str(error), parameter) from None


def _show(name: str, addresses: Addresses) -> None:
    """Print the files; if there are several, a line with its name before each."""
    files = configuration(name, Request(Settings.from_env(), addresses, str(Path.cwd())))
    for file in files:
        if len(files) > 1:
            sys.stdout.write(f"# === {file.name}\n")
        sys.stdout.write(file.text)


def _write(name: str, addresses: Addresses, directory: Path) -> list[Path]:
    """Write the files, each in one step; return their paths, the proxy's own first."""
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    request = Request(Settings.from_env(), addresses, str(directory), with_keys=True)
    files = configuration(name, request)
    for file in files:
        if file.is_secret:
            write_secret(directory / file.name, file.text, force=True)
        else:
            write_public(directory / file.name, file.text)
    return [directory / file.name for file in files]


def _checked(name: str, addresses: Addresses) -> CheckResult:
    """Have the proxy check the configuration, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="manor-mcp-edge-") as directory:
        return check(name, _write(name, addresses, Path(directory)))


def _report(result: CheckResult) -> None:
    """Report what the proxy said of its configuration."""
    if result.is_good is None:
        fail(f"not checked: {result.binary} is not installed here, or not on the PATH")
    for line in result.output.splitlines():
        print_line(line)
    if not result.is_good:
        fail(f"{result.binary} does not accept it")
    print_line(f"{result.binary} accepts it", "green")
