"""Write a configuration's files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from .rendering import File


def write(directory: Path, files: Iterable[File]) -> list[Path]:
    """Write `files` into `directory`, each in one step; return their paths.

    Raises:
        OSError: One cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return [_replace(directory / file.name, file) for file in files]


def _replace(path: Path, file: File) -> Path:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    mode = 0o600 if file.is_secret else 0o644
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(file.text)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
    return path
