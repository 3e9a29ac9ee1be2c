"""The command line: ``manor-mcp``."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from manor_mcp_interceptors import __version__
from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors._optional import MissingExtraError
from manor_mcp_interceptors.errors import SettingsError, TokenRejectedError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.provider import MCPTokenProvider

from .doctor.checks import as_data, cause
from .doctor.grpc_checks import grpc_checks
from .doctor.host import Host
from .doctor.http_checks import http_checks
from .doctor.library_log import last_error
from .doctor.local_checks import client_checks, server_checks
from .edge.command import edge
from .input import given_token, http_url, set_up
from .key_commands import jwks, keygen
from .output import fail, print_line, show_checks, show_json, show_table, wrong_usage
from .serve_auth import serve_auth

EXIT_CODES = "Exit codes: 0 all is well; 1 the check found something wrong; 2 wrong usage."

app = typer.Typer(
    name="manor-mcp",
    help="Short-lived JWTs on MCP calls: print one, check one, find out why there is none.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    # A traceback with locals could show a secret.
    pretty_exceptions_enable=False,
)

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Also call this HTTP or MCP server: POST an MCP initialize to it first,"
        " then GET if the answer is 404 or 405. A user and password in it are not sent.",
    ),
]
Grpc = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Also call this gRPC server.")]
Method = Annotated[
    str | None,
    typer.Option(metavar="METHOD", help="The unary gRPC method to call: /package.Service/Name."),
]
Tls = Annotated[bool, typer.Option("--tls", help="Call the gRPC server over TLS.")]
Server = Annotated[
    bool, typer.Option("--server", help="Check a host that only verifies tokens: no flag, no call.")
]
Audience = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The server's audience; the configured one by default."),
]
SetUp = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Call this first: the code by which your application sets a gate or settings.",
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also show default settings and adapters.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Port = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=65_535, help="The port; any free one by default."),
]
Stdio = Annotated[
    bool, typer.Option("--stdio", help="Serve one client on standard input and output instead.")
]
TokenArgument = Annotated[
    str,
    typer.Argument(metavar="[TOKEN|-]", help="The token; - (the default) reads standard input."),
]


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - an option, as typer wants it
    if wanted:
        sys.stdout.write(f"manor-mcp {__version__}\n")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
    ),
]


@app.callback()
def _common(version: Version = False) -> None: ...  # noqa: FBT002


def run() -> int:
    """Run the command that the process's arguments name."""
    # The commands themselves report what matters.
    logging.getLogger().addHandler(logging.NullHandler())
    app()
    return 0


@app.command(epilog=EXIT_CODES)
def doctor(
    url: Url = None,
    grpc: Grpc = None,
    method: Method = None,
    tls: Tls = False,  # noqa: FBT002
    server: Server = False,  # noqa: FBT002
    audience: Audience = None,
    setup: SetUp = None,
    verbose: Verbose = False,  # noqa: FBT002
    json: AsJson = False,  # noqa: FBT002 - an option, as typer wants it
) -> None:
    """Find out why a call carries no token, or why a server refuses it.

    The steps of the decision are checked in their order; the first failure is
    the cause. Secrets and tokens are not shown; the fingerprints of a secret on
    two hosts can be compared.

    With --url or --grpc the server is called without and with the token. If it
    refuses the token, it gets a few others, which differ in one thing each:
    audience, issuer, date, key id, or the previous secret. They expire within
    two minutes, but name only a server that may have them.
    """
    if server and (url is not None or grpc is not None):
        raise wrong_usage("a host that only verifies tokens makes no call", "--server")
    url = None if url is None else http_url(url)
    host, flag_log = _host(audience, setup)
    checks = server_checks(host) if server else client_checks(host, flag_log)
    if url is not None:
        checks += http_checks(host, url)
    if grpc is not None:
        checks += grpc_checks(host, grpc, method=method, tls=tls)
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
    """Print the header, for curl -H "$(manor-mcp headers)".

    With --json it is an object of headers: the command that Claude Code runs as
    a headersHelper prints one.
    """
    value = f"Bearer {_token(audience)}"
    if json:
        show_json({HEADER_NAME: value})
    else:
        sys.stdout.write(f"{HEADER_NAME}: {value}\n")


@app.command(epilog=EXIT_CODES)
def inspect(token: TokenArgument = "-", json: AsJson = False) -> None:  # noqa: FBT002, S107
    """Decode a token WITHOUT verifying it: anybody may have made it."""
    from manor_mcp_interceptors._keys.unverified import read_unverified

    from .doctor.claims import readable

    try:
        header, claims = read_unverified(given_token(token))
    except ValueError as error:
        fail(str(error))
    if json:
        show_json({"verified": False, "header": header, "claims": claims})
        return
    print_line("UNVERIFIED: anybody may have made this token", "bold yellow")
    show_table({**header, **readable(claims)})


@app.command(epilog=EXIT_CODES)
def verify(token: TokenArgument = "-", json: AsJson = False) -> None:  # noqa: FBT002, S107
    """Verify a token as a server with this environment would."""
    from .doctor.claims import readable

    given = given_token(token)
    try:
        from manor_mcp_interceptors.server.verifier import TokenVerifier

        verified = TokenVerifier.from_env().verify(given)
    except TokenRejectedError as rejected:
        if json:
            show_json({"verified": False, "reason": str(rejected.reason)})
            raise typer.Exit(1) from None
        fail(f"refused: {rejected.reason}")
    except (SettingsError, ImportError) as error:
        fail(str(error))
    if json:
        show_json({"verified": True, "claims": verified.claims})
        return
    print_line("verified", "green")
    show_table(readable(verified.claims))


app.command(epilog=EXIT_CODES)(keygen)
app.command(epilog=EXIT_CODES)(jwks)


@app.command(epilog=EXIT_CODES)
def demo() -> None:
    """Call real servers with every adapter, and show what the servers saw."""
    try:
        from .demo.run import run as run_demo  # needs every extra, the other commands none
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("manor_mcp_interceptors"):
            raise
        print_line(f"The demo needs {error.name}: pip install 'manor-mcp-interceptors[all]'", "red")
        raise typer.Exit(2) from None
    raise typer.Exit(run_demo())


@app.command(epilog=EXIT_CODES)
def bridge(
    url: Annotated[str, typer.Argument(metavar="URL", help="The MCP server, up to its /mcp.")],
    port: Port = None,
    stdio: Stdio = False,  # noqa: FBT002
    audience: Audience = None,
) -> None:
    """Let an MCP client without tokens call a server that verifies them.

    The client calls the URL that this command prints, or starts this command with
    --stdio. A token that the client sends is not passed on.

    Every program on this machine can call that URL. If other people use the
    machine, too, choose --stdio.
    """
    if stdio and port is not None:
        raise wrong_usage("standard input and output have no port", "--port")
    url = http_url(url, "URL")
    try:
        from .bridge import Bridge, shown_log
    except MissingExtraError as missing:
        print_line(str(missing), "red")
        raise typer.Exit(2) from None
    bridge = Bridge(url, _provider(audience))
    problem = bridge.problem()
    if problem is not None:
        fail(f"{problem}; `manor-mcp doctor --url {url}` finds out why")
    with shown_log():
        if stdio:
            bridge.run_stdio()
            return
        try:
            bridge.run_http(port or 0, lambda local: typer.echo(f"{local} -> {url}"))
        except OSError as error:
            fail(f"port {port} cannot be used: {error.strerror}")


app.command(epilog=EXIT_CODES)(edge)
app.command(epilog=EXIT_CODES)(serve_auth)


def _host(audience: str | None, setup: str | None) -> tuple[Host, str]:
    """Return what this host decides from, and the last error that OpenFeature logged."""
    with last_error("openfeature") as logged:
        if setup is not None:
            set_up(setup)
        host = Host.of(_provider(audience))
        if host.answer.problem is not None and host.gate == "OpenFeature":
            logged.wait()
        return host, logged.text


def _provider(audience: str | None) -> MCPTokenProvider:
    try:
        return MCPTokenProvider.get_instance(audience)
    except SettingsError as error:
        raise wrong_usage(str(error), "--audience") from None


def _token(audience: str | None) -> str:
    decision = _provider(audience).decision()
    if decision.token is None:
        hint = "" if decision.outcome is Outcome.FLAG_OFF else "; run `manor-mcp doctor`"
        fail(f"no token ({decision.outcome}): {decision.reason}{hint}")
    return str(decision.token)
