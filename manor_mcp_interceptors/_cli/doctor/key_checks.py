"""The keys of this host: the one that signs, and those whose tokens it accepts."""

from __future__ import annotations

import os
import sys
from typing import Final

from manor_mcp_interceptors._keys.given_token import GivenToken
from manor_mcp_interceptors._keys.jwks import KeySet
from manor_mcp_interceptors._keys.private_key import PrivateKey
from manor_mcp_interceptors._keys.public_key import PublicKey
from manor_mcp_interceptors._keys.shared_secret import MIN_SECRET_BYTES, SharedSecret
from manor_mcp_interceptors._keys.verification_keys import VerificationKeys
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome

from .checks import Check, State
from .host import Host
from .rotation import check_rotation
from .token_checks import NAME as TOKEN_SOURCE
from .token_checks import check_given, fix_of, not_asked

_NAMES: Final = {
    "private_key": "private key",
    "jwks": "public keys",
    "previous": "previous secret",
    "token": TOKEN_SOURCE,
}
"""The name of a check, by what the variable's name contains."""
_OTHERWISE: Final = "secret"


_FIX_OF_PROBLEM: Final = {
    "are both set": (
        "unset one of them: a token comes from one source; a secret that only verifies goes to"
        " MCP_AUTH_PREVIOUS_SECRET"
    ),
    "needs cryptography": f"{sys.executable} -m pip install 'manor-mcp-interceptors[crypto]'",
    "an encrypted key": (
        "decrypt it, and let only this process read the file; nothing asks for a password"
    ),
}
"""By what the error says."""
_NOTHING_SET: Final = (
    "MCP_AUTH_SECRET_FILE=path of a mounted secret, which `manor-mcp keygen` makes; or without a"
    " shared secret: MCP_AUTH_PRIVATE_KEY_FILE at callers, MCP_AUTH_JWKS_FILE at servers"
)
_RANDOM_TEXT: Final = "use random text of 32 bytes or more; `manor-mcp keygen` makes some"
_FIX_OF_KEY: Final = {
    _NAMES["private_key"]: "`manor-mcp keygen --es256 --output FILE` makes one",
    _NAMES["jwks"]: "`manor-mcp jwks FILE…` makes one of PEM files",
    _NAMES["previous"]: _RANDOM_TEXT,
    _OTHERWISE: _RANDOM_TEXT,
}


def check_keys(host: Host, *, only_verifies: bool) -> list[Check]:
    """Report each key: where it came from, its form, and what two hosts can compare.

    Args:
        host: The configuration.
        only_verifies: Whether this host makes no calls.
    """
    checks: list[Check] = []
    try:
        if not only_verifies:
            checks += _credential(host)
        if only_verifies or host.names_accepted_keys():
            checks += _accepted(host, host.verification_keys())
    except SettingsError as error:
        checks.append(_bad_key(host, error))
    except ImportError:
        found = "set; its form cannot be checked without PyJWT"
        checks.append(Check(_OTHERWISE, State.NOTE, found))
    return checks


def _credential(host: Host) -> list[Check]:
    """Report what the tokens of this host come from; a secret is reported with those accepted."""
    credential = host.credential()
    if credential is None:
        return [not_asked(str(host.token_source))]
    if isinstance(credential, GivenToken):
        return [check_given(credential)]
    if isinstance(credential, PrivateKey):
        return [_private_key(host, credential, host.accepted_keys())]
    return []


def _accepted(host: Host, keys: VerificationKeys) -> list[Check]:
    checks = [] if keys.current is None else [_good_secret(_OTHERWISE, keys.current)]
    for problem in keys.problems:
        finding = f"for verifying: {problem}"
        name = _name(problem)
        fix = _fix(host, problem) if name == _NAMES["jwks"] else "correct or unset it"
        checks.append(Check(name, State.WARNING, finding, fix))
    others = [key for key in keys.secrets if key is not keys.current]
    checks += [_good_secret(_NAMES["previous"], key) for key in others]
    if keys.public is not None:
        checks.append(_public_keys(keys.public))
    return checks if keys.current is None else [*checks, check_rotation(keys, host.settings)]


def _name(error: SettingsError) -> str:
    variable = error.variable.lower()
    return next((name for part, name in _NAMES.items() if part in variable), _OTHERWISE)


def _bad_key(host: Host, error: SettingsError) -> Check:
    return Check(_name(error), State.FAILED, str(error), _fix(host, error))


def _fix(host: Host, error: SettingsError) -> str:
    name, path = _name(error), _path(host, error)
    if error.outcome is Outcome.NOT_CONFIGURED and name == _OTHERWISE:
        return _NOTHING_SET
    if path is not None and os.path.isdir(path):
        return f"name the file inside the directory: {error.variable}={_file_inside(path)}"
    if "cannot be read" in str(error):
        user = f" (uid {os.getuid()})" if hasattr(os, "getuid") else ""
        return f"mount the file there, and let this process{user} read it"
    known = (fix for problem, fix in _FIX_OF_PROBLEM.items() if problem in str(error))
    return next(known, fix_of(error) if name == TOKEN_SOURCE else _FIX_OF_KEY[name])


def _path(host: Host, error: SettingsError) -> str | os.PathLike[str] | None:
    field = error.variable.lower().removeprefix("mcp_auth_").removeprefix("settings.")
    return getattr(host.settings, field) if field.endswith("_file") else None


def _file_inside(directory: str | os.PathLike[str]) -> str:
    """Return the path of the one file in `directory`, or a placeholder for it."""
    try:
        names = [name for name in os.listdir(directory) if not name.startswith(".")]
    except OSError:
        names = []
    return os.path.join(directory, names[0] if len(names) == 1 else "NAME")


def _good_secret(name: str, key: SharedSecret) -> Check:
    size, mark = len(key.secret.encode()), key.fingerprint()
    details = (("source", key.source), ("bytes", str(size)), ("fingerprint", mark))
    finding = f"{size} bytes from {key.source}"
    if not key.warnings:
        return Check(name, State.OK, finding, "", details)
    fix = "`manor-mcp keygen` makes a good one"
    if size >= MIN_SECRET_BYTES:
        fix = "set the same text at callers and servers, without anything that was added to it"
    return Check(name, State.WARNING, f"{finding}; {'; '.join(key.warnings)}", fix, details)


def _private_key(host: Host, key: PrivateKey, accepted: VerificationKeys | None) -> Check:
    name, finding = _NAMES["private_key"], f"{key.algorithm}, kid {key.key_id}, from {key.source}"
    details = (("source", key.source), ("algorithm", key.algorithm), ("kid", key.key_id))
    public = None if accepted is None else accepted.public
    problem, fix = ("; ".join(key.warnings), "") if key.warnings else _acceptance(host, key, public)
    if problem:
        return Check(name, State.WARNING, f"{finding}; {problem}", fix, details)
    where = "" if public is None else "; the JWKS file here has it"
    return Check(name, State.OK, f"{finding}{where}", "", details)


def _acceptance(host: Host, key: PrivateKey, public: KeySet | None) -> tuple[str, str]:
    """Return why the JWKS file of this host refuses its own tokens, and the fix; else empty."""
    if public is None:
        return "", ""
    known = public.keys.get(key.key_id)
    if known is None:
        fix = "add its public half to the JWKS file of every server: `manor-mcp jwks FILE…`"
        return f"{public.source} does not have it", fix
    subject, bound = host.settings.subject, known.subjects
    if bound is None or bound.allow(subject):
        return "", ""
    fix = f"set MCP_AUTH_SUBJECT to one of them, or bind the key to {subject!r} at every server"
    return f"{public.source} binds it to {', '.join(bound.names())}, not to {subject!r}", fix


def _public_keys(keys: KeySet) -> Check:
    rows = tuple((key.key_id, _words(key)) for key in keys.keys.values())
    finding = f"{len(rows)} in use from {keys.source}"
    if not keys.warnings:
        return Check(_NAMES["jwks"], State.OK, finding, "", rows)
    fix = "correct the file, or remove the keys that are not used; replace a key that has leaked"
    finding = f"{finding}; {'; '.join(keys.warnings)}"
    return Check(_NAMES["jwks"], State.WARNING, finding, fix, rows)


def _words(key: PublicKey) -> str:
    subjects = "any subject" if key.subjects is None else ", ".join(key.subjects.names())
    return f"{key.algorithm} for {subjects}"
