"""Compare the secrets of two hosts without showing them."""

from __future__ import annotations

import hashlib
from typing import Final

_CONTEXT: Final = b"manor_mcp_interceptors: fingerprint of a shared secret, v1"
"""A fixed salt, because two hosts share nothing else. Tables made for other purposes do not fit."""

_COST: Final = 2**15
_BLOCK: Final = 8
_MAX_KNOWN: Final = 256

_known: Final[dict[bytes, str]] = {}
"""By a digest of the secret: a secret that is retired leaves the memory."""


def fingerprint(secret: str) -> str:
    """Return eight hex digits of a slow digest of `secret`, as ``1a2b-3c4d``.

    A fingerprint is read aloud and pasted into tickets, so it must not help to find the secret.
    scrypt makes each guess cost 32 MiB and a tenth of a second, and 32 bits hardly confirm a
    guess. That protects a secret that a person made up; a random one needs no protection.
    It is computed once for each secret.
    """
    key = hashlib.blake2b(secret.encode()).digest()
    if key not in _known:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[key] = _digest(secret)
    return _known[key]


def _digest(secret: str) -> str:
    digest = hashlib.scrypt(
        secret.encode(),
        salt=_CONTEXT,
        n=_COST,
        r=_BLOCK,
        p=1,
        maxmem=256 * _BLOCK * _COST,  # twice the need; OpenSSL's default is just below the need
        dklen=4,
    ).hex()
    return f"{digest[:4]}-{digest[4:]}"
