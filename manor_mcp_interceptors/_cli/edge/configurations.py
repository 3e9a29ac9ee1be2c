"""The configuration of each proxy: templates, and the values in them, each in quotes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.resources import files
from typing import Final

from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.settings import VARIABLES, Settings

from .addresses import Addresses
from .key_files import envoy_secrets

_PLACE: Final = re.compile(r"@@([a-z_]+)@@")
_TEMPLATES: Final = files(__package__) / "templates"
_VARIABLES: Final = {variable.field: variable.name for variable in VARIABLES}


@dataclass(frozen=True, slots=True)
class Request:
    """What a configuration is made from."""

    settings: Settings
    addresses: Addresses
    directory: str
    """The absolute path of the folder in which its files will stand."""
    with_keys: bool = False
    """Whether files with keys belong to it: they are never printed."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a configuration."""

    name: str
    text: str
    is_secret: bool = False
    """Whether it holds keys: only its owner may read it."""


def configuration(name: str, request: Request) -> list[File]:
    """Return the files of a configuration; the proxy is started with the first.

    Args:
        name: One of `NAMES`.
        request: What it is made from.

    Raises:
        SettingsError: A setting cannot be expressed in it.
    """
    return _MAKERS[name](request)


def _haproxy(request: Request) -> list[File]:
    settings = _native(request.settings, "haproxy")
    values = {
        **_addresses(request.addresses),
        "issuer": _haproxy_quoted(_text(settings, "issuer")),
        "audience": _haproxy_quoted(_text(settings, "audience")),
        "enforcement": settings.enforcement,
        "start": _haproxy_start(settings),
        "public_keys": "",
    }
    return [_fill("haproxy.cfg", "haproxy.cfg", values)]


def _haproxy_start(settings: Settings) -> str:
    """Return the command that puts the secrets of files into HAProxy's environment."""
    words = ["haproxy -W -f haproxy.cfg"]
    for field, variable in (
        ("previous_secret_file", "MCP_AUTH_PREVIOUS_SECRET"),
        ("secret_file", "MCP_AUTH_SECRET"),
    ):
        if getattr(settings, field) is not None:
            words.insert(0, f'{variable}="$(cat {shlex.quote(_text(settings, field))})"')
    return " ".join(words)


def _haproxy_forward(request: Request) -> list[File]:
    values = _addresses(request.addresses)
    return [
        _fill("haproxy.cfg", "haproxy-forward.cfg", values),
        _fill("mcp_auth.lua", "haproxy-forward.lua", {}),
    ]


def _nginx(request: Request) -> list[File]:
    settings = _native(request.settings, "nginx")
    names = ["issuer", "audience", "enforcement", "secret_file", "previous_secret_file"]
    known = {name: _text(settings, name) for name in names if getattr(settings, name) is not None}
    return [
        _fill("nginx.conf", "nginx.conf", _addresses(request.addresses)),
        _fill("mcp_auth.js", "nginx.js", {"settings": _json(known, indent=4)}),
    ]


def _nginx_forward(request: Request) -> list[File]:
    return [_fill("nginx.conf", "nginx-forward.conf", _addresses(request.addresses))]


def _caddy(request: Request) -> list[File]:
    return [_fill("Caddyfile", "caddy.Caddyfile", _addresses(request.addresses))]


def _envoy(request: Request) -> list[File]:
    settings = _native(request.settings, "envoy")
    common = {
        "issuer": _text(settings, "issuer"),
        "audiences": [_text(settings, "audience")],
        "forward": True,
        "require_expiration": True,
        "clock_skew_seconds": 1,  # 0 is 60; the Lua filter is exact
        "payload_in_metadata": "claims",
        "header_in_metadata": "header",
    }
    secrets = f"{request.directory}/secrets.jwks.json"
    providers = {"shared_secrets": {**common, "local_jwks": {"filename": secrets}}}
    accepted: list[dict[str, object]] = [{"provider_name": name} for name in providers]
    if settings.enforcement == "observe":
        accepted.append({"allow_missing_or_failed": {}})
    requires = {"requires_any": {"requirements": accepted}} if len(accepted) > 1 else accepted[0]
    values = {
        **_envoy_addresses(request.addresses),
        "directory": _json(request.directory),
        "listeners_file": _json(f"{request.directory}/listeners.yaml"),
        "key_files": secrets,
        "written_at": _json(datetime.now(timezone.utc).isoformat()),
        "providers": _json(providers),
        "requires": _json(requires),
        "observe": _json(settings.enforcement == "observe"),
    }
    keys = request.with_keys and File("secrets.jwks.json", envoy_secrets(settings), is_secret=True)
    return [
        _fill("envoy.yaml", "envoy.yaml", values),
        *([keys] if keys else []),
        _fill("listeners.yaml", "envoy-listeners.yaml", values),  # last: Envoy reads the keys again
    ]


def _envoy_forward(request: Request) -> list[File]:
    values = {**_addresses(request.addresses), **_envoy_addresses(request.addresses)}
    return [_fill("envoy.yaml", "envoy-forward.yaml", values)]


def _addresses(given: Addresses) -> dict[str, str]:
    names = ("listen", "grpc_listen", "upstream", "grpc_upstream", "auth")
    values = {name: str(getattr(given, name)) for name in names}
    return {
        **values,
        "listen_host": given.listen.host,
        "grpc_listen_host": given.grpc_listen.host,
        "auth_host": given.auth.host,
        "auth_port": str(given.auth.port),
    }


def _envoy_addresses(given: Addresses) -> dict[str, str]:
    names = ("listen", "grpc_listen", "upstream", "grpc_upstream")
    values = {name: getattr(given, name).as_json() for name in names}
    return {**values, "auth_socket": given.auth.as_json()}


def _native(settings: Settings, name: str) -> Settings:
    """Return settings that a proxy itself can follow; it cannot ask a flag."""
    if settings.enforcement_flag is None:
        return settings
    other = "envoy-forward" if name == "envoy" else f"{name}-forward"
    raise SettingsError(
        f"MCP_AUTH_ENFORCEMENT_FLAG is set, and {name} cannot ask a flag: unset it, or use {other}",
        variable="MCP_AUTH_ENFORCEMENT_FLAG",
    )


def _text(settings: Settings, field: str) -> str:
    """Return a setting that every configuration language can hold in quotes.

    Raises:
        SettingsError: It holds a line end or another character that is not printable.
    """
    text = str(getattr(settings, field))
    if text.isprintable():
        return text
    raise SettingsError(
        f"{_VARIABLES[field]} holds a character that is not printable, which no configuration can",
        variable=_VARIABLES[field],
    )


def _haproxy_quoted(text: str) -> str:
    # In double quotes a backslash escapes these three characters, and nothing else has a meaning.
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'


def _json(value: object, indent: int | None = None) -> str:
    """Return `value` as JSON, which is also JavaScript and YAML."""
    return json.dumps(value, indent=indent, ensure_ascii=False)


def _fill(name: str, template: str, values: Mapping[str, str]) -> File:
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return File(name, _PLACE.sub(lambda place: values[place[1]], text))


_MAKERS: Final[dict[str, Callable[[Request], list[File]]]] = {
    "haproxy": _haproxy,
    "haproxy-forward": _haproxy_forward,
    "nginx": _nginx,
    "nginx-forward": _nginx_forward,
    "caddy": _caddy,
    "envoy": _envoy,
    "envoy-forward": _envoy_forward,
}
NAMES: Final = tuple(_MAKERS)
