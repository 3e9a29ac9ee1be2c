"""The checks that need no server: each question of the decision, in the provider's order."""

from __future__ import annotations

import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from manor_mcp_interceptors._keys.given_token import GivenToken
from manor_mcp_interceptors._keys.tokens import mint
from manor_mcp_interceptors._keys.unverified import read_unverified
from manor_mcp_interceptors.client.mcp_http import http_library
from manor_mcp_interceptors.errors import SettingsError, TokenRejectedError

from .checks import Check, State, cause
from .claims import readable
from .host import Host
from .key_checks import check_keys
from .settings_checks import check_settings

ADAPTERS: Final = (
    ("RequestsAuth", "requests", "requests"),
    ("HttpxAuth", "httpx", "httpx"),
    ("Httpx2Auth", "httpx2", "httpx2"),
    ("AiohttpAuth", "aiohttp", "aiohttp"),
    ("GrpcAuthInterceptor", "grpcio", "grpc"),
    ("mcp_auth()", "mcp", "mcp"),
    ("MCPTokenVerifier", "mcp", "mcp"),
    ("FastMCPTokenVerifier", "fastmcp", "fastmcp"),
    ("OpenFeatureGate", "openfeature-sdk", "openfeature"),
    ("metrics and spans", "opentelemetry-api", "otel"),
)
"""Each adapter, the distribution that it needs, and the extra that installs it."""

_IN_CODE: Final = (
    ". A gate or an OpenFeature provider that the application sets in code is not seen here"
    " unless --setup package.module:function runs that code"
)
_ONLY_VERIFIES: Final = (
    ". A host that only verifies tokens needs no flag: judge it with `manor-mcp doctor --server`"
)


def client_checks(host: Host, flag_log: str) -> list[Check]:
    """Return the checks of a host that makes calls.

    Args:
        host: What the decision was made from.
        flag_log: The last error that the flag's library logged; empty if there is none.
    """
    checks = [_check_flag(host, flag_log), *_configuration_checks(host, only_verifies=False)]
    return [*checks, _check_token(host, cause(checks)), _check_adapters()]


def server_checks(host: Host) -> list[Check]:
    """Return the checks of a host that only verifies tokens."""
    checks = _configuration_checks(host, only_verifies=True)
    return [*checks, _check_verification(host), _check_enforcement(host), _check_adapters()]


def _configuration_checks(host: Host, *, only_verifies: bool) -> list[Check]:
    keys = check_keys(host, only_verifies=only_verifies)
    return [*check_settings(host), *keys, _check_pyjwt()]


def _check_flag(host: Host, log: str) -> Check:
    """Report the flag's answer, who gave it, and how to change it."""
    answer, word = host.answer, "on" if host.answer.enabled else "off"
    details = (("key", host.flag), ("asked", host.gate), ("subject", host.subject))
    if answer.invalid:
        fix = f"set {answer.source} to on or off"
        return Check("flag", State.FAILED, answer.problem or "", fix, details)
    state = State.FAILED if not answer.enabled else State.OK
    finding = f"{host.flag} is {word} ({answer.source})"
    if answer.problem is None:
        return Check("flag", state, finding, "" if answer.enabled else _turn_on(host), details)
    why = f"{answer.problem}; it logged: {log}" if log else answer.problem
    finding = f"the flag backend {host.gate} gave no answer ({why}); {finding}"
    fix = (
        "repair the flag backend; until it first answers,"
        f" {host.flag_variable}=on or =off in the environment decides"
    )
    return Check("flag", State.WARNING if answer.enabled else state, finding, fix, details)


def _turn_on(host: Host) -> str:
    source, server = host.answer.source, _ONLY_VERIFIES if host.can_verify() else ""
    if source.startswith("environment variable "):
        return f"{source.removeprefix('environment variable ')}=on{server}"
    if source.startswith("default"):
        where = "in the environment, or turn it on in your flag service"
        return f"{host.flag_variable}=on {where}{_IN_CODE}{server}"
    return f"turn {host.flag} on for {host.subject!r} in {source}{server}"


def _check_pyjwt() -> Check:
    """Report whether PyJWT can be imported, and its version."""
    try:
        from manor_mcp_interceptors._keys import jws  # noqa: F401 - the module that imports it
    except ImportError as error:
        finding = f"cannot be imported ({type(error).__name__}: {error})"
        module = (error.name or "jwt").partition(".")[0]
        fix = f"{sys.executable} -m pip install {'PyJWT' if module == 'jwt' else module}"
        return Check("PyJWT", State.FAILED, finding, fix)
    import jwt

    return Check("PyJWT", State.OK, jwt.__version__)


def _check_token(host: Host, known_cause: Check | None) -> Check:
    """Show the claims of the token that a call made now would carry."""
    decision = host.provider.decision()
    if decision.token is None:
        state = State.FAILED if known_cause is None else State.NOTE
        return Check("token", state, f"none ({decision.outcome}): {decision.reason}")
    claims = _shown_claims(decision.token)
    left = host.provider.status().seconds_to_expiry
    finding = "of unknown lifetime" if left is None else f"valid for {int(left)} more seconds"
    given = isinstance(host.credential(), GivenToken)
    finding = f"{'as it was given' if given else 'signed'}, {finding}"
    proves = "A call made now carries a token."
    return Check("token", State.OK, finding, "", claims, proves=proves)


def _shown_claims(token: str) -> tuple[tuple[str, str], ...]:
    try:
        header, claims = read_unverified(token)
    except ValueError:  # it is opaque
        return ()
    return tuple((name, str(value)) for name, value in {**header, **readable(claims)}.items())


def _check_verification(host: Host) -> Check:
    """Verify a token that this configuration signs, as a server would."""
    from manor_mcp_interceptors.server.verifier import TokenVerifier

    settings = host.settings
    try:
        verifier = TokenVerifier(host.given)
        keys = host.verification_keys()
        if keys.current is not None:
            verifier.verify(mint(settings, keys.current, time.time()).value)
    except (SettingsError, TokenRejectedError, ImportError) as error:
        what = "TokenVerifier() fails" if host.can_verify() else "no token is accepted"
        return Check("verification", State.FAILED, f"{what}: {error}")
    details = (("issuer", settings.issuer), ("audience", settings.audience))
    means = [] if keys.current is None else ["is signed with the secret"]
    means += [] if keys.public is None else ["one of the public keys verifies"]
    finding = f"a token that {' or '.join(means)} is accepted"
    proves = "This host can verify tokens."
    return Check("verification", State.OK, finding, "", details, proves=proves)


def _check_enforcement(host: Host) -> Check:
    """Report whether a server with this configuration refuses calls, and why."""
    from manor_mcp_interceptors.server._verification import Verification

    mode = Verification(host.given).mode()
    details = (("decided by", mode.why),)
    if mode.is_enforced:
        finding = f"enforce: a call without a valid token is refused ({mode.why})"
        fix = "" if mode.problem is None else "correct the flag's variable: on or off"
        state = State.OK if mode.problem is None else State.WARNING
    else:
        finding = f"observe: a call without a valid token is let through ({mode.why})"
        fix = "enforce when every caller sends a token: the log and manor.mcp_auth.observed tell"
        state = State.WARNING
    problem = "" if mode.problem is None else f"; {mode.problem}"
    return Check("enforcement", state, finding + problem, fix, details)


def _check_adapters() -> Check:
    """Report the version of each adapter's library, without importing it."""
    rows, missing = [], []
    for adapter, distribution, extra in ADAPTERS:
        try:
            shown = f"{distribution} {version(distribution)}"
            if adapter == "mcp_auth()":
                shown += f" speaks {_mcp_auth()}"
        except PackageNotFoundError:
            shown = f"not installed: pip install 'manor-mcp-interceptors[{extra}]'"
            missing.append(adapter)
        rows.append((adapter, shown))
    finding = f"{len(rows) - len(missing)} of {len(rows)} installed"
    if missing:
        finding += f"; not installed: {', '.join(missing)}"
    return Check("adapters", State.NOTE, finding, more=tuple(rows))


def _mcp_auth() -> str:
    """Return the HTTP library of the installed mcp SDK, and the auth object for it."""
    library = http_library("mcp_auth")
    return f"{library}: use mcp_auth() or {'Httpx2Auth' if library == 'httpx2' else 'HttpxAuth'}"
