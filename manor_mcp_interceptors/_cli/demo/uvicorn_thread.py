"""An ASGI application on a free loopback port, served by uvicorn in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import uvicorn

from manor_mcp_interceptors._cli.listener import listen

READY_SECONDS: Final = 10.0
"""How long an application may take to start."""
STOP_SECONDS: Final = 2
"""How long connections that are still open may take to end; whole seconds."""


class _Server(uvicorn.Server):
    """Sets an event when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    def serve_on(self, listener: socket.socket) -> None:
        try:
            with suppress(SystemExit):  # how uvicorn reports a failed start
                self.run(sockets=[listener])
        finally:
            self.ready.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def serve(application: Any, *, port: int = 0) -> Iterator[str]:
    """Serve `application` until the context ends; give its URL, without a slash at the end.

    Args:
        application: The ASGI application.
        port: The port of a server that is started again; 0 is any free port.

    Raises:
        RuntimeError: The server did not start, or did not stop.
    """
    with listen(port) as listener:
        server = _Server(
            uvicorn.Config(
                application,
                log_config=None,  # the caller configures logging
                access_log=False,
                ws="none",
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        thread = threading.Thread(
            target=server.serve_on, args=(listener,), name="uvicorn", daemon=True
        )
        thread.start()
        try:
            if not server.ready.wait(READY_SECONDS) or not server.started:
                raise RuntimeError("the server did not start")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(READY_SECONDS)
    if thread.is_alive():
        raise RuntimeError("the server did not stop")
