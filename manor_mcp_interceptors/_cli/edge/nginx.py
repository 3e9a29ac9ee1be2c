"""nginx's configurations."""

from __future__ import annotations

from manor_mcp_interceptors._keys.public_key import PublicKey
from manor_mcp_interceptors.settings import Settings

from .keys_in_force import as_der, public_keys
from .rendering import File, Request, address_values, as_json, fill, for_proxy, text_of

_FIELDS = (
    "issuer",
    "audience",
    "issued_at",
    "enforcement",
    "secret_file",
    "previous_secret_file",
)


def nginx(request: Request) -> list[File]:
    """Return the files of nginx with njs as the verifier."""
    settings = for_proxy(request.settings, "nginx")
    return [
        fill("nginx.conf", "nginx.conf", address_values(request.addresses)),
        fill("mcp_auth.js", "nginx.js", {"settings": as_json(_settings(settings), indent=4)}),
    ]


def nginx_forward(request: Request) -> list[File]:
    """Return the file of nginx that asks a verifier."""
    return [fill("nginx.conf", "nginx-forward.conf", address_values(request.addresses))]


def _settings(settings: Settings) -> dict[str, object]:
    set_ones = [field for field in _FIELDS if getattr(settings, field) is not None]
    return {
        **{field: text_of(settings, field) for field in set_ones},
        "public_keys": [_key(key) for key in public_keys(settings)],
    }


def _key(key: PublicKey) -> dict[str, object]:
    subjects = None if key.subjects is None else key.subjects.names()
    return {"kid": key.key_id, "alg": key.algorithm, "spki": as_der(key), "subjects": subjects}
