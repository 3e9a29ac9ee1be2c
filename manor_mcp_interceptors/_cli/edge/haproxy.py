"""HAProxy's configurations."""

from __future__ import annotations

import re
import shlex
from typing import Final

from manor_mcp_interceptors._keys.public_key import PublicKey
from manor_mcp_interceptors._subjects import Subjects
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.settings import Settings

from .keys_in_force import as_pem, public_keys
from .rendering import File, Request, address_values, fill, for_proxy, text_of

_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._/@+=-]+")


def haproxy(request: Request) -> list[File]:
    """Return the files of HAProxy as the verifier."""
    settings = for_proxy(request.settings, "haproxy")
    keys = public_keys(settings)
    values = {
        **address_values(request.addresses),
        "issuer": _quoted(text_of(settings, "issuer"), "MCP_AUTH_ISSUER"),
        "audience": _quoted(text_of(settings, "audience"), "MCP_AUTH_AUDIENCE"),
        "issued_at": settings.issued_at,
        "enforcement": settings.enforcement,
        "start": _start(settings),
        "public_keys": _rules(keys, request.directory),
    }
    pems = [File(_pem(number), as_pem(key)) for number, key in enumerate(keys, 1)]
    return [fill("haproxy.cfg", "haproxy.cfg", values), *pems]


def haproxy_forward(request: Request) -> list[File]:
    """Return the files of HAProxy that asks a verifier."""
    return [
        fill("haproxy.cfg", "haproxy-forward.cfg", address_values(request.addresses)),
        fill("mcp_auth.lua", "haproxy-forward.lua", {}),
    ]


def _start(settings: Settings) -> str:
    """Return the command that starts it, with the secrets of files in its environment."""
    words = []
    current = '-e "$MCP_AUTH_SECRET"'
    if settings.secret_file is not None:
        path = shlex.quote(text_of(settings, "secret_file"))
        words.append(f'MCP_AUTH_SECRET="$(cat {path})"')
        current = f"-f {path}"
    if settings.previous_secret_file is not None:
        path = shlex.quote(text_of(settings, "previous_secret_file"))
        # In a rotation the file holds two secrets, of which the current one is not wanted.
        lines = f"grep -vE '^(#|[[:space:]]*$)' {path} | grep -vxF {current} | tail -n 1"
        words.append(f'MCP_AUTH_PREVIOUS_SECRET="$({lines})"')
    return " ".join([*words, "haproxy -W -f haproxy.cfg"])


def _pem(number: int) -> str:
    return f"public-{number}.pem"


def _rules(keys: list[PublicKey], directory: str) -> str:
    if keys and not _PLAIN_PATH.fullmatch(directory):
        raise SettingsError(
            f"the folder {directory!r} holds a character that HAProxy may not read in the path of a"
            " key: choose another --output"
        )
    rules = [_rule(number, key, directory) for number, key in enumerate(keys, 1)]
    return "\n".join(rules) or "    # There is no file of public keys (MCP_AUTH_JWKS_FILE)."


def _rule(number: int, key: PublicKey, directory: str) -> str:
    """Return what accepts a token that `key` has signed, for its subjects."""
    if key.algorithm == "EdDSA":
        return f"    # HAProxy cannot use the key {key.key_id}: EdDSA."
    path = f"{directory}/{_pem(number)}"
    lines = [
        f"acl kid_{number} var(txn.key_id) -m str -- {_quoted(key.key_id)}",
        f"acl alg_{number} var(txn.algorithm) -m str {key.algorithm}",
        f'acl signed_{number} var(txn.token),jwt_verify("{key.algorithm}","{path}") 1',
    ]
    conditions = f"kid_{number} alg_{number} signed_{number}"
    if key.subjects is not None:
        conditions += f" subject_{number} !prefix_{number}"
        lines += _subject_rules(number, key.subjects)
    lines.append(f"http-request set-var(txn.signed) int(1) if {conditions}")
    return "\n".join(f"    {line}" for line in lines)


def _subject_rules(number: int, subjects: Subjects) -> list[str]:
    ways = [("subject", "str", name) for name in sorted(subjects.exact)]
    ways += [("subject", "beg", prefix) for prefix in subjects.prefixes]
    # A prefix alone is no subject below it. No subject is empty.
    ways += [("prefix", "str", prefix) for prefix in ("", *subjects.prefixes)]
    return [
        f"acl {name}_{number} var(txn.subject) -m {way} -- {_quoted(text)}"
        for name, way, text in ways
    ]


def _quoted(text: str, variable: str = "MCP_AUTH_JWKS_FILE") -> str:
    """Return `text`, which comes from `variable`, as a word of HAProxy's configuration.

    Raises:
        SettingsError: It is not ASCII: HAProxy cannot read it in a token.
    """
    if not text.isascii():
        raise SettingsError(
            f"{variable} is not ASCII, which HAProxy cannot read in a token: use haproxy-forward",
            variable=variable,
        )
    # In double quotes a backslash escapes these three characters, and nothing else has a meaning.
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'
