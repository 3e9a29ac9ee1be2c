"""The files that the command line writes."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

_SECRET: Final = 0o600
_PUBLIC: Final = 0o644


def write_secret(path: Path, secret: str, *, force: bool) -> None:
    """Write a file that nobody else can read at any moment; leave none if that fails."""
    if force:
        _replace(path, secret, _SECRET)
    else:
        _create(path, secret, _SECRET)


def write_public(path: Path, text: str) -> None:
    """Write or replace a file at once: a reader sees the old text or the new one.

    A file that exists keeps its mode, and a symbolic link its target.
    """
    path = Path(os.path.realpath(path))
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    _replace(path, text, _PUBLIC, exactly=mode)


def _replace(path: Path, text: str, mode: int, *, exactly: int | None = None) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _create(new, text, mode)
    try:
        if exactly is not None:
            new.chmod(exactly)  # unlike the mode of a new file, without the umask
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def _create(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except BaseException:
        os.unlink(path)
        raise
