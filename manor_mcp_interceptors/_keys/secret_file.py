"""A secret in a file that may change while the process runs."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import Final

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.settings import trim

from .signing_key import MIN_SECRET_BYTES, SigningKey

__all__ = ["SecretFile", "shown_path"]

MAX_FILE_BYTES: Final = 65_536
NOT_SHOWN: Final = "<not shown>"

_EXTENSION: Final = re.compile(
    r"\.(?:bin|cfg|conf|dat|env|ini|json|jwt|key|pass|pem|secret|token|txt|ya?ml)\Z"
)


@dataclass(frozen=True, slots=True)
class _Contents(HoldsSecret):
    """What one read of the file found. Its `repr` hides it from tracebacks that print locals."""

    data: bytes = field(default=b"", repr=False)
    problem: str | None = None
    """Why it is not usable."""
    is_removed: bool = False
    """Whether there is no file, or nothing in it but white space."""

    def text(self) -> str:
        # Never strict: a UnicodeDecodeError holds the bytes.
        return self.data.decode("utf-8", errors="replace").rstrip("\r\n")


class SecretFile(HoldsSecret):
    """A mounted secret, re-read at each recheck.

    A file that becomes empty, unreadable or garbled leaves the last good secret in use. The path
    is resolved each time, so Kubernetes' swap of the ``..data`` symlink is just a change.
    """

    def __init__(self, path: str, variable: str) -> None:
        self._path = path
        self._variable = variable
        self._last_good: _Contents | None = None

    def read(self, key_id: str | None) -> SigningKey:
        """Return the key in the file, or the last good one with a warning of what is wrong.

        Args:
            key_id: The key's `kid`.

        Raises:
            SettingsError: The file is not usable and there is no earlier secret.
        """
        found, last_good = _read(self._path), self._last_good
        if found.problem is None:
            self._last_good = found
            return self._key(found, key_id)
        if last_good is None:
            raise self._wrong(found.problem, shown_path(self._path))
        error = self._wrong(found.problem, self._path)
        return self._key(last_good, key_id, f"{error}; the last good secret stays in use")

    def is_removed(self) -> bool:
        """Return whether there is no file, or nothing in it but white space.

        An unreadable file is not removed: `read` reports what is wrong with it.
        """
        return _read(self._path).is_removed

    def forget(self) -> None:
        """Stop using the last good secret."""
        self._last_good = None

    def _key(self, found: _Contents, key_id: str | None, *warnings: str) -> SigningKey:
        return SigningKey(found.text(), key_id, f"{self._variable} ({self._path})", warnings)

    def _wrong(self, problem: str, shown: str) -> SettingsError:
        message = f"{self._variable}: {shown} {problem}"
        if shown == NOT_SHOWN:
            message += f"; {self._variable} takes the path of a file, not the secret itself"
        outcome = Outcome.NOT_CONFIGURED if problem == "is empty" else Outcome.INVALID_CONFIG
        return SettingsError(message, variable=self._variable, outcome=outcome)


def shown_path(path: str) -> str:
    """Return `path`, or `NOT_SHOWN` if it may be a secret that was put in the wrong variable.

    It is shown if it exists, if it ends like a file's name (``secret.txt``), or if it is a short
    name in a folder that exists. The working directory and ``/`` do not count as that folder,
    because they would make such a name of any text. A longer name may be a random secret.
    """
    folder, name = os.path.split(path)
    in_a_folder = folder.strip("/") and len(name) < MIN_SECRET_BYTES and os.path.isdir(folder)
    shows = in_a_folder or _EXTENSION.search(path) or os.path.lexists(path)
    return path if shows else NOT_SHOWN


def _read(path: str) -> _Contents:
    """Read the file whole; an error is a value here, because a traceback would show `path`.

    Whole, and each time: a file system's clock ticks too slowly for its modification time to
    prove that nothing was written since.
    """
    try:
        # Before opening: a FIFO in the file's place would block the caller for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return _Contents(problem="is not a regular file")
        with open(path, "rb") as file:
            return _checked(_Contents(file.read(MAX_FILE_BYTES + 1)))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return _Contents(problem=f"cannot be read: {error.strerror}", is_removed=missing)


def _checked(found: _Contents) -> _Contents:
    if len(found.data) > MAX_FILE_BYTES:
        return _Contents(problem=f"is larger than {MAX_FILE_BYTES} bytes")
    if found.data.decode("utf-8", errors="replace").encode() != found.data:
        return _Contents(problem="is not UTF-8 text")
    if not trim(found.text()):
        return _Contents(problem="is empty", is_removed=True)
    return found
