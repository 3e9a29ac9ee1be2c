"""What ``manor-mcp edge`` does: print a configuration, write it, have the proxy check it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from manor_mcp_interceptors.settings import Settings

from .addresses import Addresses
from .configurations import configuration
from .proxy_check import CheckResult, check
from .rendering import Request
from .writing import write


def show(name: str, addresses: Addresses) -> None:
    """Print a configuration; if it has several files, a line with its name before each."""
    files = configuration(name, Request(Settings.from_env(), addresses, str(Path.cwd())))
    for file in files:
        if len(files) > 1:
            sys.stdout.write(f"# === {file.name}\n")
        sys.stdout.write(file.text)


def write_to(name: str, addresses: Addresses, directory: Path) -> list[Path]:
    """Write a configuration; return the paths of its files, the proxy's own first.

    Raises:
        SettingsError: A setting is malformed, or cannot be expressed in it.
        OSError: A file cannot be written.
    """
    directory = directory.resolve()
    request = Request(Settings.from_env(), addresses, str(directory), with_keys=True)
    return write(directory, configuration(name, request))


def check_it(name: str, addresses: Addresses) -> CheckResult:
    """Have the proxy check a configuration, in a folder that is removed afterwards.

    Raises:
        SettingsError: A setting is malformed, or cannot be expressed in it.
    """
    with tempfile.TemporaryDirectory(prefix="manor-mcp-edge-") as directory:
        return check(name, write_to(name, addresses, Path(directory)))
