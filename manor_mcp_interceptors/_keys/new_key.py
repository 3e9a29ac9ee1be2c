"""Make a new private key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from manor_mcp_interceptors._optional import needs

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

RSA_BITS: Final = 3072
"""As strong as P-256 and Ed25519 (NIST SP 800-57, part 1, table 2)."""


def new_private_key(algorithm: str) -> str:
    """Return a new key for `algorithm`, ``ES256``, ``RS256`` or ``EdDSA``: PKCS #8 in PEM.

    Raises:
        ValueError: It is another algorithm.
        MissingExtraError: `cryptography` is not installed.
    """
    with needs("cryptography", "a private key", extra="crypto"):
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )
    make: dict[str, Callable[[], PrivateKeyTypes]] = {
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "RS256": lambda: rsa.generate_private_key(65537, RSA_BITS),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }
    if algorithm not in make:
        raise ValueError(f"algorithm: {algorithm!r} is not one of {', '.join(make)}")
    key = make[algorithm]()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
