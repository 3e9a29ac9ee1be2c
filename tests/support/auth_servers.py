"""Real servers that take tokens, or do not, with a clock that may be wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors.server._door import challenge
from manor_mcp_interceptors.server.grpc_interceptors import MCPAuthServerInterceptor
from manor_mcp_interceptors.server.reasons import Reason
from tests.support import SECRET


class ShiftedClock:
    """The time as a host has it whose clock is wrong."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


@contextmanager
def http_server(
    settings: Settings | None = None, *, ahead: float = 0.0, tells_time: bool = True, port: int = 0
) -> Iterator[str]:
    """Serve ``/mcp`` to those with a token of `settings`, or to anybody; give its URL.

    Args:
        settings: None lets everybody in.
        ahead: Seconds by which the server's clock is wrong.
        tells_time: Whether its answers have a ``Date``.
        port: 0 is any.
    """
    clock = ShiftedClock(ahead)
    verifier = None if settings is None else TokenVerifier(settings, clock=clock)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            values = self.headers.get_all("Authorization") or []
            verdict = None if verifier is None else verifier.judge_authorization(values)
            if self.path != "/mcp":
                self._answer(404)
            elif isinstance(verdict, Reason):
                self._answer(401, {"WWW-Authenticate": challenge(verdict)})
            else:
                self._answer(200)

        do_GET = do_POST  # noqa: N815 - the base class's word

        def _answer(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def send_header(self, keyword: str, value: str) -> None:
            if keyword != "Date" or tells_time:
                super().send_header(keyword, value)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(clock.time() if timestamp is None else timestamp)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


METHOD = "/manor.mcp.v1.SearchService/ListTools"


class _OneMethod(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, method: str) -> None:
        self._method = method

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != self._method:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


@contextmanager
def grpc_server(
    settings: Settings | None = None, *, ahead: float = 0.0, method: str = METHOD
) -> Iterator[str]:
    """Serve one gRPC method that takes the tokens of `settings`, or any call; give its target."""
    interceptors: list[Any] = []
    if settings is not None:
        verifier = TokenVerifier(settings, clock=ShiftedClock(ahead))
        interceptors.append(MCPAuthServerInterceptor(verifier))
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, handlers=[_OneMethod(method)], interceptors=interceptors)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


GOOD = Settings(secret=SECRET)
"""What a server has that takes the tokens of the fixture `env_on`."""
