"""The shared secret, from the environment or from a file that may change under us."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from .errors import SettingsError
from .outcomes import Outcome
from .settings import Settings

__all__ = ["KeySource", "SecretFile", "SigningKey", "VerificationKeys"]

MIN_SECRET_BYTES: Final = 32
"""RFC 7518, section 3.2: an HS256 key has at least the size of its hash."""
MAX_FILE_BYTES: Final = 65_536
SETTLE_SECONDS: Final = 0.05
"""How long after its last change a file may still be on its way to being written."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret fit for HS256, and where it came from."""

    secret: str = field(repr=False)
    key_id: str | None
    source: str
    """The variable or field it came from, and the file's path where there is one."""
    remarks: tuple[str, ...] = ()
    """What an operator should know about it; no remark holds the secret."""
    settles_in: float = math.inf
    """Seconds until its file, which changed a moment ago, can be trusted and read again."""


@dataclass(frozen=True, slots=True)
class VerificationKeys:
    """The secrets whose tokens are accepted: the current one, and one being retired."""

    current: SigningKey
    previous: SigningKey | None
    problem: SettingsError | None = field(default=None, compare=False)
    """Why there is no previous secret although the settings name one."""

    def secrets_for(self, key_id: str | None) -> tuple[str, ...]:
        """Return the secrets that may have signed a token; none for an unknown `kid`.

        The previous secret's `kid` has no setting of its own: it is any that is not the current
        one. Where the settings name no `kid`, or the token has none, both secrets are tried.
        """
        current, previous = self.current, self.previous
        retired = () if previous is None else (previous.secret,)
        if key_id is None or current.key_id is None:
            return (current.secret, *retired)
        return (current.secret,) if key_id == current.key_id else retired

    def remarks(self) -> list[str]:
        """Say what an operator should know about them."""
        previous = () if self.previous is None else self.previous.remarks
        problem = [] if self.problem is None else [f"no previous secret: {self.problem}"]
        return [*self.current.remarks, *previous, *problem]


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
        return None if self.text().strip() else "is empty"

    def settles_in(self, now: float, good: _Contents | None) -> float:
        """Return the seconds for which its writer may still be at work; 0 or less when over.

        A file in another's place was put there whole: by a rename, or behind a symlink. A time
        of change in the future, from another machine's clock, says nothing.
        """
        if good is None or good.inode != self.inode or good.data == self.data:
            return 0.0
        age = now - self.modified_at
        return SETTLE_SECONDS - age if age >= 0 else 0.0


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

    def read(self, key_id: str | None, now: float) -> SigningKey:
        """Return the key in the file, or the last good one with a remark on what is wrong.

        Args:
            key_id: The `kid` that the key goes by.
            now: Unix time, seconds; compared with the file's modification time.

        Raises:
            SettingsError: The file is no use and there is no earlier secret.
        """
        good = self._good
        source = f"{self._variable} ({self.path})"
        try:
            fresh = self._look()
            wait = fresh.settles_in(now, good)
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
        """Return whether there is no file, or nothing in it."""
        try:
            return os.stat(self.path).st_size == 0
        except FileNotFoundError:
            return True
        except OSError:  # unreadable is not removed: `read` tells what is wrong
            return False

    def _look(self) -> _Contents:
        try:
            fresh = _read(self.path)
        except OSError as error:
            raise self._wrong(f"cannot be read: {error.strerror}") from None
        if fresh is None:
            raise self._wrong("is not a regular file")
        return fresh

    def _refuse(self, contents: _Contents) -> None:
        if problem := contents.problem():
            raise self._wrong(problem)

    def _wrong(self, problem: str) -> SettingsError:
        message = f"{self._variable}: {self.path} {problem}"
        outcome = Outcome.NOT_CONFIGURED if problem == "is empty" else Outcome.INVALID_CONFIG
        return SettingsError(message, variable=self._variable, outcome=outcome)


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


class KeySource:
    """Reads the keys that the settings name. Threads may share it."""

    def __init__(self, wall_clock: Callable[[], float], *, in_code: bool = False) -> None:
        """Take the clock that dates files, and whether the settings were made in code."""
        self._wall_clock = wall_clock
        self._in_code = in_code
        self._files: dict[tuple[str, str], SecretFile] = {}
        self._judged: dict[str, str] = {}

    def signing_key(self, settings: Settings) -> SigningKey:
        """Return the current signing key.

        Raises:
            SettingsError: There is no usable secret; its `outcome` tells missing from wrong.
            ImportError: PyJWT, which judges the secret's form, cannot be imported.
        """
        key = self._find(settings.secret, settings.secret_file, "secret", settings.key_id)
        if key is None:
            raise SettingsError(
                "no secret is set: set MCP_AUTH_SECRET, or MCP_AUTH_SECRET_FILE to a file's path",
                variable="MCP_AUTH_SECRET",
                outcome=Outcome.NOT_CONFIGURED,
            )
        return self._judge(key)

    def verification_keys(self, settings: Settings) -> VerificationKeys:
        """Return the secrets whose tokens are accepted now.

        A previous secret that is no use does not take the current one with it: the answer says
        what is wrong with it. A previous secret's file that is gone or empty is no problem: that
        is how a rotation ends.

        Raises:
            SettingsError: There is no usable current secret.
        """
        # The current one first. A rotation writes the old secret to the previous place before it
        # writes the new one: read in this order, the two never miss the secret in between.
        current = self.signing_key(settings)
        try:
            return VerificationKeys(current, self._previous(settings))
        except SettingsError as error:
            return VerificationKeys(current, None, error)

    def _previous(self, settings: Settings) -> SigningKey | None:
        secret, path = settings.previous_secret, settings.previous_secret_file
        name = "previous_secret"
        if secret is None and path is not None:
            variable = self._name(f"{name}_file")
            if self._file(path, variable).is_removed():
                del self._files[variable, os.fspath(path)]  # its last good secret goes as well
                return None
        key = self._find(secret, path, name, None)
        return None if key is None else self._judge(key)

    def _find(
        self,
        secret: str | None,
        path: str | os.PathLike[str] | None,
        name: str,
        key_id: str | None,
    ) -> SigningKey | None:
        """Return the secret that is set, as text or as a file; None where neither is."""
        if secret is not None and path is not None:
            del secret  # a traceback that prints locals prints no secret
            variable = f"MCP_AUTH_{name.upper()}"
            raise SettingsError(
                f"{variable} and {variable}_FILE are both set: unset one of them",
                variable=variable,
            )
        if secret is not None:
            return SigningKey(secret, key_id, self._name(name))
        if path is None:
            return None
        return self._file(path, self._name(f"{name}_file")).read(key_id, self._wall_clock())

    def _judge(self, key: SigningKey) -> SigningKey:
        """Return `key` with remarks on its form; judged once, since that takes a while."""
        secret = self._judged.get(key.source)
        if secret != key.secret:
            refuse_asymmetric(key)
            self._judged[key.source] = secret = key.secret
        # The environment gives a new text at each look; what was minted from it keeps this one.
        return replace(key, secret=secret, remarks=(*_remarks(key), *key.remarks))

    def _name(self, field_name: str) -> str:
        return f"Settings.{field_name}" if self._in_code else f"MCP_AUTH_{field_name.upper()}"

    def _file(self, path: str | os.PathLike[str], variable: str) -> SecretFile:
        # Kept, because a SecretFile remembers the last good secret.
        name = (variable, os.fspath(path))
        return self._files.setdefault(name, SecretFile(path, variable))


def refuse_asymmetric(key: SigningKey) -> None:
    """Raise SettingsError where `key` is a PEM, ssh or JWK key, which is no shared secret."""
    from ._hs256 import is_asymmetric_key  # PyJWT is imported only where a token is near

    if is_asymmetric_key(key.secret):
        raise SettingsError(
            f"{key.source} holds a PEM, ssh or JWK key; HS256 takes a shared secret: random text",
            variable=key.source.partition(" ")[0],
        )


def _remarks(key: SigningKey) -> list[str]:
    remarks = []
    size = len(key.secret.encode())
    if size < MIN_SECRET_BYTES:
        remarks.append(
            f"{key.source} is {size} bytes long; HS256 asks for at least {MIN_SECRET_BYTES}"
            " (RFC 7518, section 3.2)"
        )
    if key.secret != key.secret.strip():
        remarks.append(f"{key.source} begins or ends with white space, taken as part of it")
    return remarks
