"""The fingerprints of the secrets that this process holds: the graph of a rotation."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

from manor_mcp_interceptors._waiting import event_loop

MAX_OWNERS: Final = 16
"""How many providers and verifiers with separate settings are shown: a fingerprint is slow."""

RoleAndFingerprint = tuple[str, str]
"""``signing`` or ``verifying``, and the fingerprint of a secret."""


class Owner(Protocol):
    """Signs or verifies with secrets."""

    def fingerprints(self) -> Iterable[RoleAndFingerprint]:
        """Return those of the secrets as they are now: it may read files, and take 0.1 s each."""


class SecretsInUse:
    """Asks the owners of secrets when an exporter asks. Nothing is computed without an exporter."""

    def __init__(self) -> None:
        # Unlike a WeakSet, it can be read while another thread adds to it.
        self._owners: weakref.WeakValueDictionary[int, Owner] = weakref.WeakValueDictionary()
        self._latest: frozenset[RoleAndFingerprint] = frozenset()
        self._reader = threading.Thread()

    def add(self, owner: Owner) -> None:
        """Ask `owner` too, as long as it lives."""
        self._owners[id(owner)] = owner

    def read(self) -> frozenset[RoleAndFingerprint]:
        """Return what is in use now.

        On an event loop, which must not wait, a thread reads it and the answer is the one of
        the time before.
        """
        if event_loop() is None:
            self._read()
        elif not self._reader.is_alive():
            self._reader = threading.Thread(target=self._read, name="mcp-auth-secrets", daemon=True)
            self._reader.start()
        return self._latest

    def _read(self) -> None:
        found: set[RoleAndFingerprint] = set()
        for owner in [reference() for reference in self._owners.valuerefs()][:MAX_OWNERS]:
            with suppress(Exception):  # telemetry breaks nothing
                found.update(() if owner is None else owner.fingerprints())
        self._latest = frozenset(found)


secrets_in_use: Final = SecretsInUse()
"""Those of this process."""
