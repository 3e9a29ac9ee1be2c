"""The keys that the settings name, in the forms in which proxies read them."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.public_key import PublicKey, public_jwk
from manor_mcp_interceptors._keys.shared_secret import MIN_SECRET_BYTES
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.settings import Settings

from .rendering import printable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import Encoding

_VARIABLE: Final = "MCP_AUTH_JWKS_FILE"


def public_keys(settings: Settings) -> list[PublicKey]:
    """Return the usable public keys of the JWKS file; none if the settings name no file.

    Raises:
        SettingsError: The file is not usable, or a name in it is not printable.
    """
    if settings.jwks_file is None:
        return []
    alone = Settings(jwks_file=settings.jwks_file)
    found = KeySource().verification_keys(alone).public
    keys = [] if found is None else list(found.keys.values())
    for key in keys:
        for text in (key.key_id, *(key.subjects.names() if key.subjects else ())):
            printable(text, _VARIABLE)
    return keys


def names_a_secret(settings: Settings) -> bool:
    """Return whether the settings name a shared secret, or nothing to verify with at all."""
    names = ("secret", "secret_file", "previous_secret", "previous_secret_file")
    return settings.jwks_file is None or any(getattr(settings, name) is not None for name in names)


def secrets_as_jwks(settings: Settings) -> str:
    """Return the shared secrets in force as a JWK set (RFC 7517), without those that are short.

    Raises:
        SettingsError: There is none of at least 32 bytes.
    """
    keys = KeySource().verification_keys(replace(settings, jwks_file=None))
    secrets = [key.secret.encode() for key in keys.secrets]
    usable = [secret for secret in secrets if len(secret) >= MIN_SECRET_BYTES]
    if not usable:
        raise SettingsError(
            f"MCP_AUTH_SECRET is shorter than {MIN_SECRET_BYTES} bytes: the proxy takes no such"
            " secret. `manor-mcp keygen` prints one",
            variable="MCP_AUTH_SECRET",
        )
    jwks = [{"kty": "oct", "alg": "HS256", "k": _base64url(secret)} for secret in usable]
    return json.dumps({"keys": jwks}) + "\n"


def public_jwks(keys: list[PublicKey]) -> str:
    """Return public keys as a JWK set, each with its `alg`."""
    return json.dumps({"keys": [{**public_jwk(key.key), "kid": key.key_id} for key in keys]}) + "\n"


def as_pem(key: PublicKey) -> str:
    """Return a public key as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return _exported(key, Encoding.PEM).decode()


def as_der(key: PublicKey) -> str:
    """Return a public key as a SubjectPublicKeyInfo in base64."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return b64encode(_exported(key, Encoding.DER)).decode()


def _exported(key: PublicKey, encoding: Encoding) -> bytes:
    from cryptography.hazmat.primitives.serialization import PublicFormat

    exported: bytes = key.key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    return exported


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
