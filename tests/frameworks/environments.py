"""A virtual environment for each framework: by uv if that is installed, else by venv and pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALL_SECONDS = 600


class InstallError(Exception):
    """The packages do not resolve, or cannot be installed; the text is the installer's."""


def make(folder: Path, packages: list[str]) -> Path:
    """Install `packages` and this package, without an extra, into `folder`; return its Python.

    Raises:
        InstallError: That failed.
    """
    python = folder / "bin" / "python"
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    uv = shutil.which("uv", path=beside)
    if uv is None:
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "-q", "-e", str(ROOT), *packages)
    else:
        _run(uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "-q", "--python", str(python), "-e", str(ROOT), *packages)
    return python


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
    )
    if done.returncode:
        raise InstallError(" ".join(done.stderr.split())[-300:])
