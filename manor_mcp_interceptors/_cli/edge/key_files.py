"""The keys in force, in the form in which a proxy reads them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.shared_secret import MIN_SECRET_BYTES
from manor_mcp_interceptors.settings import Settings


def envoy_secrets(settings: Settings) -> str:
    """Return the shared secrets in force as a JWK set (RFC 7517), without those that are short."""
    secrets = [key.secret.encode() for key in KeySource().verification_keys(settings).secrets]
    usable = [secret for secret in secrets if len(secret) >= MIN_SECRET_BYTES]
    jwks = [{"kty": "oct", "alg": "HS256", "k": _base64url(secret)} for secret in usable]
    return json.dumps({"keys": jwks}) + "\n"


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
