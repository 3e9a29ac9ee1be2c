"""A key pair for tests: the caller's file and the servers' file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from manor_mcp_interceptors._keys.new_key import new_private_key
from manor_mcp_interceptors._keys.private_key import parse_private_key

__all__ = ["KeyAlgorithm", "KeyPair"]

KeyAlgorithm: TypeAlias = Literal["ES256", "RS256", "EdDSA"]
"""What a private key signs with."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The two files of a key pair, by path: the key itself is in no field and no `repr`."""

    private_key_file: str
    """For callers: `Settings.private_key_file`, `MCP_AUTH_PRIVATE_KEY_FILE`."""
    jwks_file: str
    """For servers: `Settings.jwks_file`, `MCP_AUTH_JWKS_FILE`."""
    key_id: str
    """The `kid` of its tokens."""

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        algorithm: KeyAlgorithm = "ES256",
        *,
        subjects: Sequence[str] = (),
    ) -> KeyPair:
        """Make a new key and write both files.

        Args:
            folder: Where they are written, as ``private_key.pem`` and ``jwks.json``.
            algorithm: What the key signs with.
            subjects: Those that it speaks for; none: any.

        Raises:
            ModuleNotFoundError: `cryptography` is not installed.
        """
        private, jwks = Path(folder, "private_key.pem"), Path(folder, "jwks.json")
        private.touch(0o600)
        private.write_text(new_private_key(algorithm))
        key = parse_private_key(private.read_text(), str(private))
        bound = {"sub": list(subjects)} if subjects else {}
        jwks.write_text(json.dumps({"keys": [{**key.public_jwk(), **bound}]}))
        return cls(str(private), str(jwks), key.key_id)
