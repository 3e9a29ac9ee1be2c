"""The command line: ``manor-mcp``."""

from __future__ import annotations

import logging
import secrets
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors.errors import SettingsError, TokenRejectedError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.provider import MCPTokenProvider

from .doctor.checks import as_data, cause
from .input import given_token, is_http, set_up, write_secret
from .output import say, show_checks, show_json, show_table

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
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also show default settings and adapters.")
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
    url: Annotated[
        str | None,
        typer.Option(
            help="Also call this HTTP or MCP server: POST an MCP initialize to it first,"
            " GET where that is a 404 or a 405."
        ),
    ] = None,
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
    verbose: Verbose = False,  # noqa: FBT002
    json: AsJson = False,  # noqa: FBT002 - an option, as typer wants it
) -> None:
    """Say why a call carries a token, or none, and how a server answers to it.

    Each step of the decision is checked in the order in which it is made; the first one that
    failed is the cause. Secrets and tokens are not shown: a secret's fingerprint lets you compare
    two hosts. With --url or --grpc the server is called without and with the token; where it
    refuses, a few more calls find out why. Their tokens differ in audience, issuer, date, key id
    or secret (the previous one) and expire within two minutes: name a server that may have them.
    """
    from .doctor.local_checks import local_checks

    if url is not None and not is_http(url):
        raise typer.BadParameter("not of the form http://host:port/path", param_hint="--url")
    if setup is not None:
        set_up(setup)
    provider = _provider(audience)
    checks = local_checks(provider)
    known = [provider._setup.read_settings(None).settings.audience]
    if url is not None:
        from .doctor.http_checks import http_checks

        checks += http_checks(provider, url, known)
    if grpc is not None:
        from .doctor.grpc_checks import grpc_checks

        checks += grpc_checks(provider, grpc, known, method=method, tls=tls)
    if json:
        show_json(as_data(checks))
    else:
        show_checks(checks, verbose=verbose)
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
    from .doctor.claims import read_unverified, readable

    try:
        header, claims = read_unverified(given_token(token))
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
    from .doctor.claims import readable

    given = given_token(token)
    try:
        from manor_mcp_interceptors.server.verifier import TokenVerifier

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
        write_secret(output, secret, force=force)
    except FileExistsError:
        _fail(f"{output} exists: --force replaces it, and every token signed with it is refused")
    except OSError as error:
        _fail(f"{output} cannot be written: {error.strerror}")
    say(f"wrote {output}, mode 0600")


@app.command(epilog=EXIT_CODES)
def demo() -> None:
    """Call real servers with every adapter, and show what they saw."""
    try:
        from .demo.run import run as run_demo  # needs every extra, the other commands none
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("manor_mcp_interceptors"):
            raise
        say(f"The demo needs {error.name}: pip install 'manor-mcp-interceptors[all]'", "red")
        raise typer.Exit(2) from None
    raise typer.Exit(run_demo())


def _fail(line: str) -> NoReturn:
    say(line, "red")
    raise typer.Exit(1)


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
