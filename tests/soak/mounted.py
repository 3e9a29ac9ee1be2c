"""Secrets mounted as Kubernetes mounts them, and the order in which a rotation replaces them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


class Mount:
    """A volume whose files are all replaced at once, by one swap of the ``..data`` symlink."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._version = 0
        folder.mkdir()

    def path(self, name: str) -> Path:
        """Return the path of a file, which stays the same."""
        return self._folder / name

    def swap(self, **files: str) -> None:
        """Replace what is mounted."""
        self._version += 1
        data = self._folder / f"..version_{self._version}"
        data.mkdir()
        for name, text in files.items():
            (data / name).write_text(text + "\n")
            if not self.path(name).is_symlink():
                self.path(name).symlink_to(Path("..data") / name)
        link = self._folder / "..data_tmp"
        link.symlink_to(data.name)
        os.replace(link, self._folder / "..data")


class Rotation:
    """The runbook: verifiers learn the new secret first, signers follow, the old one goes."""

    def __init__(self, folder: Path) -> None:
        self.signers = Mount(folder / "signers")
        self.verifiers = Mount(folder / "verifiers")
        self._current = self._previous = secrets.token_urlsafe(32)
        self.count = 0
        self.teach_verifiers()
        self.switch_signers()
        self.count = 0

    def teach_verifiers(self) -> None:
        """Step 1: verifiers hold the new secret, and the one that signers still use."""
        self._previous, self._current = self._current, secrets.token_urlsafe(32)
        self.verifiers.swap(current=self._current, previous=self._previous)

    def switch_signers(self) -> None:
        """Step 2, once every verifier has looked: signers use the new secret.

        Step 3, to retire the old one, is the first step of the next rotation.
        """
        self.signers.swap(current=self._current)
        self.count += 1
