"""Keys that are made while the tests run, and their files."""

from __future__ import annotations

import json
from pathlib import Path

from manor_mcp_interceptors._keys.new_key import new_private_key
from manor_mcp_interceptors._keys.private_key import PrivateKey, parse_private_key

ALGORITHMS = ["ES256", "RS256", "EdDSA"]


def write_key(file: Path, algorithm: str = "ES256") -> PrivateKey:
    """Write a new private key to `file`, and return it."""
    file.write_text(new_private_key(algorithm))
    return parse_private_key(file.read_text(), "test")


def write_jwks(file: Path, *keys: PrivateKey, **members: object) -> Path:
    """Write the public halves of `keys` to `file`, each with these members added."""
    file.write_text(json.dumps({"keys": [{**key.public_jwk(), **members} for key in keys]}))
    return file
