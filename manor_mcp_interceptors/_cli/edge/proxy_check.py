"""A proxy's own check of a configuration's syntax."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SECONDS: Final = 60.0
_ADMIN_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin")
"""Where distributions install servers; they are not on every user's path."""

_COMMANDS: Final = {
    "haproxy": ("haproxy", "-c", "-f"),
    "nginx": ("nginx", "-t", "-c"),
    "caddy": ("caddy", "validate", "--adapter", "caddyfile", "--config"),
    "envoy": ("envoy", "--mode", "validate", "--use-dynamic-base-id", "-l", "warning", "-c"),
}
_LISTENERS: Final = "listeners.yaml"
_LISTENER_TYPE: Final = re.compile(r'^- "@type": .*\n  name:', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a proxy said of a configuration."""

    binary: str
    is_good: bool | None
    """None if the proxy is not installed."""
    output: str = ""


def check(name: str, files: Sequence[Path]) -> CheckResult:
    """Have the proxy check the first of `files`; it is not started.

    Args:
        name: One of `configurations.NAMES`.
        files: The files of the configuration.
    """
    command = _COMMANDS[name.removesuffix("-forward")]
    path = os.pathsep.join([os.environ.get("PATH", ""), *_ADMIN_FOLDERS])
    binary = shutil.which(command[0], path=path)
    if binary is None:
        return CheckResult(command[0], None)
    done = subprocess.run(  # noqa: S603 - a fixed command, and a file that this program wrote
        [binary, *command[1:], str(files[0]), *_listeners(files)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=False,
    )
    return CheckResult(command[0], done.returncode == 0, (done.stdout + done.stderr).strip())


def _listeners(files: Sequence[Path]) -> list[str]:
    """Return the options by which Envoy checks its listeners, which it would read when it runs."""
    for path in files:
        if path.name == _LISTENERS:
            listeners = path.read_text(encoding="utf-8").partition("resources:\n")[2]
            static = textwrap.indent(_LISTENER_TYPE.sub("- name:", listeners), "  ")
            return ["--config-yaml", f"static_resources:\n  listeners:\n{static}"]
    return []
