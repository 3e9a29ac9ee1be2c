"""What ``manor-mcp serve-auth`` runs: the application that proxies ask, under uvicorn."""

from __future__ import annotations

import logging
import logging.config
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from manor_mcp_interceptors._optional import needs
from manor_mcp_interceptors._telemetry.log import log
from manor_mcp_interceptors.server.forward_auth import ForwardAuth

with needs("uvicorn", "manor-mcp serve-auth", extra="edge"):
    import uvicorn

from .listener import listen

KEEP_ALIVE_SECONDS: Final = 3900
"""How long an unused connection stays open: longer than proxies keep one, of which Envoy is the
slowest with an hour. Otherwise a request could meet a connection that is being closed."""
DRAIN_SECONDS: Final = 5
"""How long requests that have begun may take after a signal to end; whole seconds."""
RESTART_SECONDS: Final = 1.0
"""Pause before a worker that ended is replaced."""

LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "manor_mcp_interceptors": {"level": "INFO"},
        # It warns of each WebSocket handshake that a proxy asks about: callers could flood the log.
        "uvicorn.error": {"level": "ERROR"},
    },
    "root": {"level": "WARNING", "handlers": ["stderr"]},
}


def open_server(
    host: str, port: int, health_port: int, required_scopes: Iterable[str]
) -> AuthServer:
    """Open the sockets of a server.

    Args:
        host: A name or an address.
        port: What proxies ask; 0 is any free port.
        health_port: Where ``/healthz`` and ``/readyz`` are; 0 is any free port.
        required_scopes: What every token must have.

    Raises:
        SettingsError: A scope is malformed.
        OSError: A port cannot be used; `strerror` is a line that names it.
    """
    ForwardAuth(required_scopes=required_scopes)  # before a port is taken
    listener = _listen(host, port)
    try:
        health = _listen(host, health_port)
    except OSError:
        listener.close()
        raise
    health_port = health.getsockname()[1]
    application = ForwardAuth(required_scopes=required_scopes, health_port=health_port)
    return AuthServer(application, (listener, health))


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(port, host)
    except OSError as error:
        text = f"port {port} of {host} cannot be used: {error.strerror}"
        raise OSError(error.errno, text) from None


@dataclass(frozen=True)
class AuthServer:
    """The sockets are open: connections wait there until the workers have started."""

    application: ForwardAuth
    listeners: tuple[socket.socket, socket.socket]
    """What proxies ask, and health."""

    def line(self, workers: int) -> str:
        """Return what is served where."""
        asked, health = map(_url_of, self.listeners)
        number = f"{workers} workers" if workers > 1 else "1 worker"
        return f"serving {asked} with {number}; {health}/healthz and {health}/readyz"

    def run(self, workers: int) -> None:
        """Serve until SIGTERM or SIGINT, which ends the process with exit code 0.

        Requests that have begun are answered first.
        """
        _exit_on_signals()
        if workers == 1:
            _serve(self.application, self.listeners)
        else:
            logging.config.dictConfig(LOGGING)
            self._supervise(workers)

    def _supervise(self, workers: int) -> None:
        # uvicorn's own supervisor is not part of its documented API: its arguments have changed.
        processes = [self._start_worker() for _ in range(workers)]
        while True:
            wait([process.sentinel for process in processes])
            time.sleep(RESTART_SECONDS)
            for number, process in enumerate(processes):
                if not process.is_alive():
                    text = "a worker of serve-auth ended (exit code %s); another one is started"
                    log(logging.WARNING, text, process.exitcode)
                    processes[number] = self._start_worker()

    def _start_worker(self) -> BaseProcess:
        spawn = multiprocessing.get_context("spawn")
        arguments = (self.application, self.listeners)
        # Daemons get SIGTERM when this process exits, which then waits for their end.
        process = spawn.Process(target=_work, args=arguments, daemon=True)
        process.start()
        return process


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _work(application: ForwardAuth, listeners: Sequence[socket.socket]) -> None:
    _exit_on_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _serve(application, listeners)


def _end_with_parent() -> None:
    """End this worker if its parent was killed: it would keep the port."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _exit_on_signals() -> None:
    # uvicorn handles them while it serves, and raises them again when it has ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))


def _serve(application: ForwardAuth, listeners: Sequence[socket.socket]) -> None:
    config = uvicorn.Config(
        application,
        lifespan="on",
        log_config=LOGGING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    uvicorn.Server(config).run(sockets=list(listeners))
