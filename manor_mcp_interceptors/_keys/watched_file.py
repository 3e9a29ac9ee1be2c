"""A file that may change while the process runs: a secret, a private key, public keys."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from manor_mcp_interceptors._optional import MissingExtraError
from manor_mcp_interceptors._secrecy import HiddenText, HoldsSecret
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.settings import NOT_SHOWN, trim

from .shared_secret import MIN_SECRET_BYTES

__all__ = ["NotUsableError", "WatchedFile", "shown_path"]

T = TypeVar("T")

MAX_FILE_BYTES: Final = 65_536

_EMPTY: Final = "is empty"

_EXTENSION: Final = re.compile(
    r"\.(?:bin|cfg|conf|dat|env|ini|json|jwks|jwt|key|pass|pem|secret|token|txt|ya?ml)\Z"
)


class NotUsableError(ValueError):
    """The text of a file is not usable; the message says why, after the file's path."""


@dataclass(frozen=True, slots=True)
class _Contents(HoldsSecret):
    """What one read of the file found. Its `repr` hides it from tracebacks that print locals."""

    data: bytes = field(default=b"", repr=False)
    problem: str | None = None
    """Why it is not usable."""
    is_removed: bool = False
    """Whether there is no file, or nothing in it but white space."""

    def text(self) -> HiddenText:
        # Never strict: a UnicodeDecodeError holds the bytes.
        return HiddenText(self.data.decode("utf-8", errors="replace").rstrip("\r\n"))


@dataclass(frozen=True, slots=True)
class _Parsed(HoldsSecret, Generic[T]):
    """What the latest readable content meant, and the last good value."""

    contents: _Contents | None = None
    problem: str | None = None
    """Why that content is not usable."""
    last_good: T | None = field(default=None, repr=False)


class WatchedFile(HoldsSecret, Generic[T]):
    """A mounted file, re-read at each recheck, parsed when it has changed. Threads may share it.

    A file that becomes empty, unreadable or garbled leaves the last good value in use. The path
    is resolved each time, so Kubernetes' swap of the ``..data`` symlink is just a change.
    """

    def __init__(self, path: str, variable: str, parse: Callable[[str, str], T]) -> None:
        """Take the path, the variable that named it, and what makes a value of its text.

        Args:
            path: The path.
            variable: The name that messages use.
            parse: Takes the text and its source for messages; raises `NotUsableError`
                or `MissingExtraError`.
        """
        self._path = path
        self._variable = variable
        self._parse = parse
        self._parsed: _Parsed[T] = _Parsed()

    def read(self) -> tuple[T, str | None]:
        """Return the value, and a warning if it is the last good one.

        Raises:
            SettingsError: The file is not usable and there is no earlier value.
        """
        found, parsed = _read(self._path), self._parsed
        if found.problem is None and found != parsed.contents:
            parsed = self._parsed = self._parse_contents(found, parsed.last_good)
        problem = found.problem or parsed.problem
        if parsed.last_good is None:
            assert problem is not None  # what is parsed without a problem is good
            raise self._wrong(problem, shown_path(self._path))
        if problem is None:
            return parsed.last_good, None
        error = self._wrong(problem, self._path)
        return parsed.last_good, f"{error}; the last good one stays in use"

    def is_removed(self) -> bool:
        """Return whether there is no file, or nothing in it but white space.

        An unreadable file is not removed: `read` reports what is wrong with it.
        """
        return _read(self._path).is_removed

    def forget(self) -> None:
        """Stop using the last good value."""
        self._parsed = _Parsed()

    def _parse_contents(self, found: _Contents, last_good: T | None) -> _Parsed[T]:
        try:
            value = self._parse(found.text(), f"{self._variable} ({self._path})")
        except MissingExtraError as error:
            return _Parsed(found, f"cannot be used: {error}", last_good)
        except NotUsableError as error:
            return _Parsed(found, str(error), last_good)
        return _Parsed(found, None, value)

    def _wrong(self, problem: str, shown: str) -> SettingsError:
        message = f"{self._variable}: {shown} {problem}"
        if shown == NOT_SHOWN:
            message += f"; {self._variable} takes the path of a file, not what is in it, and no URL"
        outcome = Outcome.NOT_CONFIGURED if problem == _EMPTY else Outcome.INVALID_CONFIG
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
        return _Contents(problem=_EMPTY, is_removed=True)
    return found
