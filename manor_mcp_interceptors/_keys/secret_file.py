"""A secret in a file that may change under us."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Final

from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome

MAX_FILE_BYTES: Final = 65_536
NOT_SHOWN: Final = "<not shown>"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret fit for HS256, and where it came from."""

    secret: str = field(repr=False)
    key_id: str | None
    source: str
    """The variable or field it came from, and the file's path if there is one."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What an operator should know about it; no warning holds the secret."""


@dataclass(frozen=True, slots=True)
class _Contents:
    """The bytes of a file. A box: a traceback that prints locals prints no secret."""

    data: bytes = field(repr=False)

    def text(self) -> str:
        return self.data.decode("utf-8", errors="replace").rstrip("\r\n")

    def problem(self) -> str | None:
        """Say what is wrong with it, without raising: a UnicodeDecodeError holds the bytes."""
        if len(self.data) > MAX_FILE_BYTES:
            return f"is larger than {MAX_FILE_BYTES} bytes"
        if self.data.decode("utf-8", errors="replace").encode() != self.data:
            return "is not UTF-8 text"
        return "is empty" if self.is_blank() else None

    def is_blank(self) -> bool:
        return not self.text().strip()


class SecretFile:
    """A mounted secret, re-read at each recheck.

    A file that becomes empty, unreadable or garbled leaves the last good secret in use. The path
    is resolved each time, so Kubernetes' swap of the ``..data`` symlink is just a change.
    """

    def __init__(self, path: str | os.PathLike[str], variable: str) -> None:
        self.path: str = os.fspath(path)
        self._variable = variable
        self._good: _Contents | None = None

    def read(self, key_id: str | None) -> SigningKey:
        """Return the key in the file, or the last good one with a warning of what is wrong.

        Args:
            key_id: The `kid` that the key goes by.

        Raises:
            SettingsError: The file is not usable and there is no earlier secret.
        """
        source = f"{self._variable} ({self.path})"
        try:
            fresh = self._read()
        except SettingsError as error:
            if self._good is None:
                raise
            warning = f"{error}; the last good secret stays in use"
            return SigningKey(self._good.text(), key_id, source, (warning,))
        self._good = fresh
        return SigningKey(fresh.text(), key_id, source)

    def is_removed(self) -> bool:
        """Return whether there is no file, or nothing in it but white space."""
        try:
            found = _read(self.path)
        except FileNotFoundError:
            return True
        except OSError:  # unreadable is not removed: `read` tells what is wrong
            return False
        return found is not None and found.is_blank()

    def _read(self) -> _Contents:
        try:
            fresh = _read(self.path)
        except OSError as error:
            raise self._wrong(f"cannot be read: {error.strerror}") from None
        if fresh is None:
            raise self._wrong("is not a regular file")
        if problem := fresh.problem():
            raise self._wrong(problem)
        return fresh

    def _wrong(self, problem: str) -> SettingsError:
        shown = shown_path(self.path)
        message = f"{self._variable}: {shown} {problem}"
        if shown == NOT_SHOWN:
            message += f"; {self._variable} takes the path of a file, not the secret itself"
        outcome = Outcome.NOT_CONFIGURED if problem == "is empty" else Outcome.INVALID_CONFIG
        return SettingsError(message, variable=self._variable, outcome=outcome)


def shown_path(path: str) -> str:
    """Return `path`, or `NOT_SHOWN` where it may be a secret that was put in the wrong place."""
    return path if os.path.dirname(path) or os.path.lexists(path) else NOT_SHOWN


def _read(path: str) -> _Contents | None:
    """Read the file whole; None where it is no regular file.

    Whole, and each time: a file system's clock ticks too slowly for its modification time to
    prove that nothing was written since.
    """
    # Before opening: a FIFO in the file's place would block the caller for ever.
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    with open(path, "rb") as file:
        return _Contents(file.read(MAX_FILE_BYTES + 1))
