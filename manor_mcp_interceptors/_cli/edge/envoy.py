"""Envoy's configurations."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from manor_mcp_interceptors._keys.public_key import PublicKey
from manor_mcp_interceptors.settings import Settings

from .addresses import Addresses
from .keys_in_force import (
    names_a_secret,
    public_jwks,
    public_keys,
    secrets_as_jwks,
)
from .rendering import File, Request, address_values, as_json, fill, for_proxy, text_of

_SECRETS = "secrets.jwks.json"
_PUBLIC_KEYS = "public.jwks.json"


def envoy(request: Request) -> list[File]:
    """Return the files of Envoy as the verifier. The last one has it read the keys again."""
    settings = for_proxy(request.settings, "envoy")
    keys = public_keys(settings)
    providers = _providers(settings, request.directory, keys)
    values = {
        **_socket_addresses(request.addresses),
        "directory": as_json(request.directory),
        "listeners_file": as_json(f"{request.directory}/listeners.yaml"),
        "written_at": as_json(datetime.now(timezone.utc).isoformat()),
        "providers": as_json(providers),
        "requires": as_json(_requirement(settings, list(providers))),
        "observe": as_json(settings.enforcement == "observe"),
        "issued_at_is_optional": as_json(settings.issued_at == "optional"),
        "subjects": _lua_table(keys),
    }
    files = [fill("envoy.yaml", "envoy.yaml", values)]
    if request.with_keys and names_a_secret(settings):
        files.append(File(_SECRETS, secrets_as_jwks(settings), is_secret=True))
    if request.with_keys and keys:
        files.append(File(_PUBLIC_KEYS, public_jwks(keys)))
    return [*files, fill("listeners.yaml", "envoy-listeners.yaml", values)]


def envoy_forward(request: Request) -> list[File]:
    """Return the file of Envoy that asks a verifier."""
    values = address_values(request.addresses) | _socket_addresses(request.addresses)
    return [fill("envoy.yaml", "envoy-forward.yaml", values)]


def _providers(settings: Settings, directory: str, keys: list[PublicKey]) -> dict[str, Any]:
    common = {
        "issuer": text_of(settings, "issuer"),
        "audiences": [text_of(settings, "audience")],
        # Otherwise a token in the query, as `access_token`, is a token too.
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],
        "forward": True,
        "require_expiration": True,
        "clock_skew_seconds": 1,  # 0 would be 60; the Lua filter is exact
        "payload_in_metadata": "claims",
        "header_in_metadata": "header",
    }
    files = {
        **({"shared_secrets": _SECRETS} if names_a_secret(settings) else {}),
        **({"public_keys": _PUBLIC_KEYS} if keys else {}),
    }
    return {
        name: {**common, "local_jwks": {"filename": f"{directory}/{file}"}}
        for name, file in files.items()
    }


def _requirement(settings: Settings, providers: list[str]) -> dict[str, Any]:
    accepted: list[dict[str, Any]] = [{"provider_name": name} for name in providers]
    if settings.enforcement == "observe":
        accepted.append({"allow_missing_or_failed": {}})
    return {"requires_any": {"requirements": accepted}} if len(accepted) > 1 else accepted[0]


def _lua_table(keys: list[PublicKey]) -> str:
    """Return which subjects each public key speaks for, as Lua; false is any."""
    members = [f"[{as_json(key.key_id)}] = {_lua_subjects(key)}" for key in keys]
    return "{" + ", ".join(members) + "}"


def _lua_subjects(key: PublicKey) -> str:
    if key.subjects is None:
        return "false"
    # Printable text in JSON is a Lua string too: only " and \ are escaped.
    return "{" + ", ".join(map(as_json, key.subjects.names())) + "}"


def _socket_addresses(addresses: Addresses) -> dict[str, str]:
    names = ("listen", "grpc_listen", "upstream", "grpc_upstream")
    values = {name: as_json(getattr(addresses, name).as_envoy()) for name in names}
    return {**values, "auth_socket": as_json(addresses.auth.as_envoy())}
