"""``manor-mcp serve-auth``, as a process: ``with serve_auth() as auth``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support import SECRET

ROOT = Path(__file__).resolve().parents[2]
_LINE = re.compile(r"serving (\S+) with \d+ workers?; (\S+)/healthz and ")


class AuthProcess:
    """The process, once its ports are open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.line = process.stdout.readline()
        found = _LINE.match(self.line)
        assert found is not None, f"{self.line}{process.communicate()[1]}"
        self.url, self.health = found.groups()
        """Without a slash at the end."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        mine = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [pid for pid in map(int, mine.split()) if b"spawn_main" in _command_of(pid)]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Return the exit code and what was written to standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


@contextmanager
def serve_auth(
    *arguments: str, port: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[AuthProcess]:
    """Start the command; kill it at the end if it still runs.

    Args:
        *arguments: More of the command's.
        port: The port of a server that is started again; 0 is any free port.
        environment: Added to this process's; None is a secret.
    """
    command = [sys.executable, "-m", "manor_mcp_interceptors", "serve-auth"]
    with subprocess.Popen(
        [*command, "--port", str(port), "--health-port", "0", *arguments],
        cwd=ROOT,
        env={**os.environ, **({"MCP_AUTH_SECRET": SECRET} if environment is None else environment)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield AuthProcess(process)
        finally:
            process.kill()
