"""Remember what was accepted, so that the next look at the same token is a look-up."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from ._claims import Acceptance

CAPACITY: Final = 4096
"""Up to twice as many tokens are remembered, at about a kilobyte each."""


def digest(token: str) -> bytes:
    """Return the key that `token` goes by: nothing that a reader of a core dump could send."""
    return blake2b(token.encode()).digest()


class Memory:
    """Accepted tokens, by a digest of the whole token. Bounded; threads may share it.

    Two dictionaries take turns: when the young one is full it becomes the old one, and what was
    in the old one is forgotten unless it was asked for since. So a token in use survives a flood
    of others, and every step is one atomic operation: there is no lock to hold or to fork with.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[bytes, Acceptance] = {}
        self._old: dict[bytes, Acceptance] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, token: str) -> Acceptance | None:
        """Return what is known of `token`; None where it was not accepted lately."""
        key = digest(token)
        known = self._young.get(key)
        if known is None and (known := self._old.get(key)) is not None:
            self._put(key, known)
        return known

    def add(self, token: str, acceptance: Acceptance) -> None:
        """Remember that `token` was accepted."""
        self._put(digest(token), acceptance)

    def _put(self, key: bytes, acceptance: Acceptance) -> None:
        if len(self._young) >= CAPACITY:
            self._old, self._young = self._young, {}
        self._young[key] = acceptance
