"""Templates, and the values in them: each is in quotes, or is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.settings import VARIABLES, Settings

from .addresses import Addresses

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
    """Whether files with secrets belong to it: they are never printed."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a configuration."""

    name: str
    text: str
    is_secret: bool = False
    """Whether it holds secrets: only its owner may read it."""

    def __repr__(self) -> str:
        return f"File({self.name!r})"


def fill(name: str, template: str, values: Mapping[str, str]) -> File:
    """Return the file `name`: a template with `values`, which stand in it as they are."""
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return File(name, _PLACE.sub(lambda place: values[place[1]], text))


def text_of(settings: Settings, field: str) -> str:
    """Return a setting that every configuration language can hold in quotes.

    Raises:
        SettingsError: It holds a line end or another character that is not printable.
    """
    return printable(str(getattr(settings, field)), _VARIABLES[field])


def printable(text: str, variable: str) -> str:
    """Return `text`, which comes from `variable`, if each of its characters is printable.

    Raises:
        SettingsError: One is not.
    """
    if text.isprintable():
        return text
    raise SettingsError(
        f"{variable} holds a character that is not printable, which no configuration can",
        variable=variable,
    )


def as_json(value: object, indent: int | None = None) -> str:
    """Return `value` as JSON, which is also JavaScript and YAML."""
    return json.dumps(value, indent=indent, ensure_ascii=False)


def address_values(addresses: Addresses) -> dict[str, str]:
    """Return what the templates call the addresses."""
    names = ("listen", "grpc_listen", "upstream", "grpc_upstream", "auth")
    return {
        **{name: str(getattr(addresses, name)) for name in names},
        "listen_host": addresses.listen.host,
        "listen_port": str(addresses.listen.port),
        "grpc_listen_host": addresses.grpc_listen.host,
        "grpc_listen_port": str(addresses.grpc_listen.port),
        "auth_host": addresses.auth.host,
        "auth_port": str(addresses.auth.port),
    }


def for_proxy(settings: Settings, name: str) -> Settings:
    """Return settings that the proxy `name` can follow by itself.

    Raises:
        SettingsError: A flag decides whether calls are refused, or only some subjects may call.
    """
    unable = {
        "MCP_AUTH_ENFORCEMENT_FLAG": (settings.enforcement_flag, "cannot ask a flag"),
        "MCP_AUTH_ALLOWED_SUBJECTS": (settings.allowed_subjects, "does not check subjects"),
    }
    for variable, (value, why) in unable.items():
        if value is not None:
            raise SettingsError(
                f"{variable} is set, and {name} {why}: unset it, or use {name}-forward",
                variable=variable,
            )
    return settings
