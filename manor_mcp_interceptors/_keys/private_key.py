"""A private key that signs: which algorithm follows from it, and its public half."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from manor_mcp_interceptors._optional import needs
from manor_mcp_interceptors._secrecy import HoldsSecret

from .public_key import KINDS, algorithm_of, public_jwk, thumbprint
from .watched_file import NotUsableError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_FORM: Final = f"a PEM private key: {KINDS}"

_BEGIN: Final = re.compile("-----BEGIN [A-Z ]*PRIVATE KEY-----")


@dataclass(frozen=True, slots=True)
class PrivateKey(HoldsSecret):
    """A private key, and where it came from. Equal to another with the same public half."""

    key: Any = field(repr=False, compare=False)
    """A private key of `cryptography`."""
    algorithm: str
    """``ES256``, ``RS256`` or ``EdDSA``."""
    key_id: str
    """The RFC 7638 thumbprint of its public half."""
    source: str
    """The variable or field that it came from, and the file's path."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What an operator should know about it."""

    def fingerprint(self) -> str:
        """Return what two hosts can compare: the `kid`, which is public."""
        return self.key_id

    def public_jwk(self) -> dict[str, str]:
        """Return its public half as a JWK (RFC 7517) with `kid`, `alg` and `use`."""
        return public_jwk(self.key.public_key())


def parse_private_key(text: str, source: str = "") -> PrivateKey:
    """Return the key in `text`, which is PEM; a certificate beside it is ignored.

    Raises:
        NotUsableError: It is not one of the keys that `KINDS` names, or there are several.
        MissingExtraError: `cryptography` is not installed.
    """
    if len(_BEGIN.findall(text)) > 1:
        raise NotUsableError("holds several private keys; it takes one")
    key = _load(text)
    algorithm = algorithm_of(key.public_key())
    if algorithm is None:
        raise NotUsableError(f"holds a key of another kind; it takes {_FORM}")
    return PrivateKey(key, algorithm, thumbprint(key.public_key()), source)


def _load(text: str) -> PrivateKeyTypes:
    with needs("cryptography", "a public or private key", extra="crypto"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    try:
        return load_pem_private_key(text.encode(), password=None)
    except TypeError:  # what `cryptography` raises for an encrypted key without a password
        problem = "holds an encrypted key; decrypt it first: openssl pkey -in FILE -out NEW_FILE"
    except (ValueError, UnsupportedAlgorithm):
        problem = f"does not hold {_FORM}"
    raise NotUsableError(problem)
