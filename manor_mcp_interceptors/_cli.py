"""The command line: ``manor-mcp``."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

import typer

from ._bearer import HEADER_NAME
from ._cli_output import say, show_checks, show_json, show_table
from ._doctor.checks import as_data, cause
from .errors import SettingsError, TokenRejectedError
from .outcomes import Outcome
from .provider import MCPTokenProvider

EXIT_CODES = "Exit codes: 0 all is well; 1 the check found something wrong; 2 wrong usage."

app = typer.Typer(
    name="manor-mcp",
    help="Short-lived JWTs on MCP calls: see them, check them, and find out why there is none.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    # A traceback with locals could show a secret.
    pretty_exceptions_enable=False,
)

Audience = Annotated[
    str | None, typer.Option(help="The server's audience; the configured one by default.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TokenArgument = Annotated[
    str,
    typer.Argument(metavar="[TOKEN|-]", help="The token; - (the default) reads standard input."),
]


def run() -> int:
    """Run the command that the process's arguments name."""
    # Whatever is worth saying is said by the command itself.
    logging.getLogger().addHandler(logging.NullHandler())
    app()
    return 0


@app.command(epilog=EXIT_CODES)
def doctor(
    url: Annotated[str | None, typer.Option(help="Also call this HTTP or MCP server.")] = None,
    grpc: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Also call this gRPC server.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="/PACKAGE.SERVICE/METHOD", help="The gRPC method to call, unary."),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Call the gRPC server over TLS.")] = False,  # noqa: FBT002
    audience: Audience = None,
    setup: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Call this first: the code by which your application sets gate or settings.",
        ),
    ] = None,
    json: AsJson = False,  # noqa: FBT002 - an option, as typer wants it
) -> None:
    """Say why a call carries a token, or none, and how a server answers to it.

    Each step of the decision is checked in the order in which it is made; the first one that
    failed is the cause. Secrets and tokens are not shown: a secret's fingerprint lets you compare
    two hosts. With --url or --grpc the server is called without and with the token; where it
    refuses, a few more calls with changed tokens find out why.
    """
    from ._doctor.local_checks import local_checks

    if url is not None and not _is_http(url):
        raise typer.BadParameter("not of the form http://host:port/path", param_hint="--url")
    if setup is not None:
        _set_up(setup)
    provider = _provider(audience)
    checks = local_checks(provider)
    known = [provider._setup.look(None).settings.audience]
    if url is not None:
        from ._doctor.http_checks import http_checks

        checks += http_checks(provider, url, known)
    if grpc is not None:
        from ._doctor.grpc_checks import grpc_checks

        checks += grpc_checks(provider, grpc, known, method=method, tls=tls)
    if json:
        show_json(as_data(checks))
    else:
        show_checks(checks)
    raise typer.Exit(0 if cause(checks) is None else 1)


@app.command(epilog=EXIT_CODES)
def token(audience: Audience = None) -> None:
    """Print the token that a call made now would carry."""
    sys.stdout.write(_token(audience) + "\n")


@app.command(epilog=EXIT_CODES)
def headers(audience: Audience = None, json: AsJson = False) -> None:  # noqa: FBT002
    """Print the header, for: curl -H "$(manor-mcp headers)"."""
    value = f"Bearer {_token(audience)}"
    if json:
        show_json({HEADER_NAME: value})
    else:
        sys.stdout.write(f"{HEADER_NAME}: {value}\n")


@app.command(epilog=EXIT_CODES)
def inspect(token: TokenArgument = "-", json: AsJson = False) -> None:  # noqa: FBT002, S107
    """Decode a token WITHOUT verifying it: anybody may have made it."""
    from ._doctor.claims import read_unverified, readable

    try:
        header, claims = read_unverified(_given(token))
    except ValueError as error:
        _fail(str(error))
    if json:
        show_json({"verified": False, "header": header, "claims": claims})
        return
    say("UNVERIFIED: anybody may have made this token", "bold yellow")
    show_table({**header, **readable(claims)})


@app.command(epilog=EXIT_CODES)
def verify(token: TokenArgument = "-", json: AsJson = False) -> None:  # noqa: FBT002, S107
    """Verify a token as a server with this environment would, and say why it refuses."""
    from ._doctor.claims import readable

    given = _given(token)
    try:
        from .server.verifier import TokenVerifier

        verified = TokenVerifier.from_env().verify(given)
    except TokenRejectedError as rejected:
        if json:
            show_json({"verified": False, "reason": str(rejected.reason)})
            raise typer.Exit(1) from None
        _fail(f"refused: {rejected.reason}")
    except (SettingsError, ImportError) as error:
        _fail(str(error))
    if json:
        show_json({"verified": True, "claims": dict(verified.claims)})
        return
    say("verified", "green")
    show_table(readable(verified.claims))


@app.command(epilog=EXIT_CODES)
def keygen(
    output: Annotated[
        Path | None, typer.Option(help="Write it to this file, readable by its owner alone.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,  # noqa: FBT002
) -> None:
    """Make a strong secret: 48 random bytes, as text."""
    secret = secrets.token_urlsafe(48)
    if output is None:
        sys.stdout.write(secret + "\n")
        return
    try:
        _write(output, secret, force=force)
    except FileExistsError:
        _fail(f"{output} exists: --force replaces it, and every token signed with it is refused")
    except OSError as error:
        _fail(f"{output} cannot be written: {error.strerror}")
    say(f"wrote {output}, mode 0600")


@app.command(epilog=EXIT_CODES)
def demo() -> None:
    """Call real servers with every adapter, and show what they saw."""
    try:
        from ._demo.run import run as run_demo  # needs every extra, the other commands none
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("manor_mcp_interceptors"):
            raise
        say(f"The demo needs {error.name}: pip install 'manor-mcp-interceptors[all]'", "red")
        raise typer.Exit(2) from None
    raise typer.Exit(run_demo())


def _fail(line: str) -> NoReturn:
    say(line, "red")
    raise typer.Exit(1)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an address or a port that is none
        return False


def _provider(audience: str | None) -> MCPTokenProvider:
    try:
        return MCPTokenProvider.get_instance(audience)
    except SettingsError as error:
        raise typer.BadParameter(str(error), param_hint="--audience") from None


def _token(audience: str | None) -> str:
    decision = _provider(audience).decision()
    if decision.token is None:
        hint = "" if decision.outcome is Outcome.FLAG_OFF else "; `manor-mcp doctor` tells more"
        _fail(f"no token ({decision.outcome}): {decision.reason}{hint}")
    return str(decision.token)


def _given(token: str) -> str:
    """Return the token of the argument or of standard input; a whole header is fine, too."""
    text = sys.stdin.read() if token == "-" else token  # noqa: S105 - the sign for stdin
    text = text.strip().removeprefix(f"{HEADER_NAME}:").strip()
    if text[:7].lower() == "bearer ":
        text = text[7:].strip()
    if not text:
        raise typer.BadParameter("standard input holds no token", param_hint="TOKEN")
    return text


def _set_up(place: str) -> None:
    """Import the application's set-up and call it; its module is found from the current folder."""
    module, _, function = place.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        loaded = import_module(module)
        if function:
            getattr(loaded, function)()
    except Exception as error:
        # The type alone: what the application's own errors hold is not ours to print.
        line = f"{place} failed: {type(error).__name__}"
        raise typer.BadParameter(line, param_hint="--setup") from None


def _write(path: Path, secret: str, *, force: bool) -> None:
    """Write a file that nobody else could read at any moment, and that is never half written."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}") if force else path
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    if force:
        os.replace(new, path)
