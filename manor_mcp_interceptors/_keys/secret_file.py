"""A secret in a file that may change under us."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass, field
from typing import Final

from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome

MAX_FILE_BYTES: Final = 65_536
SETTLE_SECONDS: Final = 0.05
"""How long after its last change a file may still be on its way to being written."""

NOT_SHOWN: Final = "<not shown>"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret fit for HS256, and where it came from."""

    secret: str = field(repr=False)
    key_id: str | None
    source: str
    """The variable or field it came from, and the file's path where there is one."""
    remarks: tuple[str, ...] = field(default=(), compare=False)
    """What an operator should know about it; no remark holds the secret."""
    settles_in: float = field(default=math.inf, compare=False)
    """Seconds until its file, which changed a moment ago, can be trusted and read again."""


@dataclass(frozen=True, slots=True)
class _Contents:
    """What a file held at one look. A box: a traceback that prints locals prints no secret."""

    inode: tuple[int, int]
    modified_at: float
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

    def settles_in(self, now: float, good: _Contents | None, patience: float) -> float:
        """Return the seconds for which its writer may still be at work; 0 or less when over.

        A file in another's place was put there whole: by a rename, or behind a symlink. A time
        of change in the future, from another machine's clock, says nothing.
        """
        if good is None or good.inode != self.inode or good.data == self.data:
            return 0.0
        age = now - self.modified_at
        return patience - age if age >= 0 else 0.0


class SecretFile:
    """A mounted secret, read anew at each look.

    A file that becomes empty, unreadable or garbled leaves the last good secret in use, and so
    does one that changed in place a moment ago: it may be half written. The path is resolved at
    each look, so Kubernetes' swap of the ``..data`` symlink is just a change.
    """

    def __init__(self, path: str | os.PathLike[str], variable: str) -> None:
        self.path: str = os.fspath(path)
        self._variable = variable
        self._good: _Contents | None = None

    def read(self, key_id: str | None, now: float, patience: float = SETTLE_SECONDS) -> SigningKey:
        """Return the key in the file, or the last good one with a remark on what is wrong.

        Args:
            key_id: The `kid` that the key goes by.
            now: Unix time, seconds; compared with the file's modification time.
            patience: Seconds for which a file that changed in place may be half written.

        Raises:
            SettingsError: The file is no use and there is no earlier secret.
        """
        good = self._good
        source = f"{self._variable} ({self.path})"
        try:
            fresh = self._look()
            wait = fresh.settles_in(now, good, patience)
            if good is not None and wait > 0:
                return SigningKey(good.text(), key_id, source, settles_in=wait)
            self._refuse(fresh)
        except SettingsError as error:
            if good is None:
                raise
            remark = f"{error}; the last good secret stays in use"
            return SigningKey(good.text(), key_id, source, (remark,))
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

    def _look(self) -> _Contents:
        try:
            fresh = _read(self.path)
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            raise self._wrong(problem) from None
        if fresh is None:
            raise self._wrong("is not a regular file")
        return fresh

    def _refuse(self, contents: _Contents) -> None:
        if problem := contents.problem():
            raise self._wrong(problem)

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

    Whole, and at each look: a file system's clock ticks too slowly for its modification time to
    prove that nothing was written since.
    """
    # Before opening: a FIFO in the file's place would block the caller for ever.
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
        # After reading: whoever wrote while this read did so before this moment.
        status = os.fstat(file.fileno())
        return _Contents((status.st_dev, status.st_ino), status.st_mtime, data)
