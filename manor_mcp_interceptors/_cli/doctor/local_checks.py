"""The checks that need no server: each question of the decision, in the provider's own order."""

from __future__ import annotations

import os
import sys
from typing import Final

from manor_mcp_interceptors._decision.configuration import SettingsSnapshot
from manor_mcp_interceptors._flags.gates import FlagAnswer
from manor_mcp_interceptors._keys.keys import SigningKey
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.provider import MCPTokenProvider

from .checks import Check, State
from .claims import read_unverified, readable
from .fingerprint import fingerprint
from .settings_checks import check_settings, usable_settings

_IN_CODE: Final = (
    "A gate, or an OpenFeature provider, that the application sets in code is not seen here"
    " unless --setup package.module:function runs that code"
)


def local_checks(provider: MCPTokenProvider) -> list[Check]:
    """Return the checks of flag, settings, secret, PyJWT, token and adapters."""
    from .adapters import check_adapters

    provider.decision()  # the flag's answer and everything else is as of this moment
    view = provider._setup.read_settings(provider._audience)
    return [
        check_flag(view, provider._answer, _backend_name(provider)),
        *check_settings(provider._setup.given[0], view),
        *check_secrets(provider),
        check_pyjwt(),
        check_token(provider),
        check_adapters(),
    ]


def check_flag(view: SettingsSnapshot, answer: FlagAnswer, backend: str) -> Check:
    """Tell the flag's answer, who gave it, and what to do for another."""
    key, word = view.question.key, "on" if answer.enabled else "off"
    details = (("key", key), ("asked", backend), ("subject", view.question.subject))
    if answer.invalid:
        return Check(
            "flag", State.FAILED, answer.problem or "", f"set {answer.source} to on or off", details
        )
    if answer.problem is not None:
        state = State.WARNING if answer.enabled else State.FAILED
        finding = f"the flag backend {backend} gave no answer ({answer.problem});"
        fix = (
            f"mend the flag backend; meanwhile {key.upper()}=on or =off in the environment"
            " stands in where it has not answered yet"
        )
        return Check("flag", state, f"{finding} {key} is {word} ({answer.source})", fix, details)
    finding = f"{key} is {word} ({answer.source})"
    if answer.enabled:
        return Check("flag", State.OK, finding, "", details)
    return Check("flag", State.FAILED, finding, _turn_on(view, answer), details)


def _turn_on(view: SettingsSnapshot, answer: FlagAnswer) -> str:
    key = view.question.key
    if answer.source.startswith("environment variable "):
        return f"{answer.source.rpartition(' ')[2]}=on"
    if answer.source.startswith("default"):
        return f"{key.upper()}=on in the environment, or in your flag service. {_IN_CODE}"
    return f"turn {key} on for {view.question.subject!r} in {answer.source}"


def _backend_name(provider: MCPTokenProvider) -> str:
    backend = provider._setup.flags._backend()
    names = {
        "EnvironmentGate": "environment",
        "ManorGate": "manor.feature_flags",
        "OpenFeatureGate": "OpenFeature",
        "CustomBackend": type(getattr(backend, "_gate", backend)).__name__,
    }
    return names.get(type(backend).__name__, type(backend).__name__)


def check_secrets(provider: MCPTokenProvider) -> list[Check]:
    """Tell where each secret came from, how long it is, and its fingerprint."""
    settings, keys = usable_settings(provider), provider._setup.keys
    checks = []
    try:
        key = keys.signing_key(settings)
    except SettingsError as error:
        checks.append(_bad_secret("secret", error))
    except ImportError:
        checks.append(Check("secret", State.NOTE, "set; PyJWT is needed to judge its form"))
    else:
        checks.append(_good_secret("secret", key))
        previous = keys.verification_keys(settings)
        if previous.problem is not None:
            finding = f"for verifying: {previous.problem}"
            checks.append(Check("previous secret", State.WARNING, finding, "mend it or unset it"))
        elif previous.previous is not None:
            checks.append(_good_secret("previous secret", previous.previous))
    return checks


def _bad_secret(name: str, error: SettingsError) -> Check:
    if error.outcome is Outcome.NOT_CONFIGURED:
        fix = "MCP_AUTH_SECRET_FILE=path of a mounted secret; `manor-mcp keygen` makes a new one"
    elif "cannot be read" in str(error):
        user = f" (uid {os.getuid()})" if hasattr(os, "getuid") else ""
        fix = f"mount the file there, and let this process{user} read it"
    elif "are both set" in str(error):
        fix = f"unset {error.variable} or {error.variable}_FILE: one of the two is enough"
    else:
        fix = "give it random text of 32 bytes or more; `manor-mcp keygen` makes some"
    return Check(name, State.FAILED, str(error), fix)


def _good_secret(name: str, key: SigningKey) -> Check:
    size, mark = len(key.secret.encode()), fingerprint(key.secret)
    details = (("source", key.source), ("bytes", str(size)), ("fingerprint", mark))
    finding = f"{size} bytes from {key.source}"
    if key.warnings:
        fix = "`manor-mcp keygen` makes a good one"
        return Check(name, State.WARNING, f"{finding}; {'; '.join(key.warnings)}", fix, details)
    return Check(name, State.OK, finding, "", details)


def check_pyjwt() -> Check:
    """Tell whether PyJWT can be imported, and its version."""
    try:
        from manor_mcp_interceptors._keys import hs256  # noqa: F401 - the one module that imports it
    except ImportError as error:
        finding = f"cannot be imported ({type(error).__name__}: {error})"
        return Check("PyJWT", State.FAILED, finding, f"{sys.executable} -m pip install PyJWT")
    import jwt

    return Check("PyJWT", State.OK, jwt.__version__)


def check_token(provider: MCPTokenProvider) -> Check:
    """Show the claims of the token that a call made now would carry."""
    decision = provider.decision()
    if decision.token is None:
        failed = decision.outcome is Outcome.SIGNING_FAILED
        state = State.FAILED if failed else State.NOTE
        return Check("token", state, f"none ({decision.outcome}): {decision.reason}")
    header, claims = read_unverified(decision.token)
    left = int(provider.status().seconds_to_expiry or 0)
    details = tuple((name, str(value)) for name, value in {**header, **readable(claims)}.items())
    return Check("token", State.OK, f"signed, good for {left} more seconds", "", details)
