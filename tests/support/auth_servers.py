"""Real servers that take tokens, or do not, with a clock that may be wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.reasons import Reason, challenge
from manor_mcp_interceptors.server.verifier import verification_of
from tests.support import SECRET


class ShiftedClock:
    """The time as a host has it whose clock is wrong."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass(kw_only=True)
class Ways:
    """What an HTTP server is like."""

    ahead: float = 0.0
    """Seconds by which its clock is wrong."""
    tells_time: bool = True
    """Whether its answers have a ``Date``."""
    moved_to: str = ""
    """Where every call is sent on to."""
    moved_as: int = 307
    asks_for: str = ""
    """Its ``WWW-Authenticate``, in place of ours."""
    forbids: str = ""
    """The challenge with which it turns away a good token: 403."""
    allowed: list[str] | None = None
    """Its `allowed_subjects`."""
    seen: list[str] = field(default_factory=list)
    """The tokens that came, each once."""
    refused: list[Reason] = field(default_factory=list)
    """Why it has refused calls."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, settings: Settings | None, port: int, ways: Ways) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.ways = ways
        self.clock = ShiftedClock(ways.ahead)
        self._verifier = None
        if settings is not None:
            self._verifier = TokenVerifier(
                settings, allowed_subjects=ways.allowed, clock=self.clock
            )

    def answer(self, path: str, authorization: list[str]) -> tuple[int, dict[str, str]]:
        verifier = self._verifier
        verdict = verifier and verification_of(verifier).check_authorization(authorization)
        tokens = [value.removeprefix("Bearer ") for value in authorization]
        self.ways.seen += [token for token in tokens if token not in self.ways.seen]
        if path != "/mcp":
            return 404, {}
        if self.ways.moved_to:
            return self.ways.moved_as, {"Location": self._reflect(self.ways.moved_to, tokens)}
        if isinstance(verdict, Reason):
            self.ways.refused.append(verdict)
            return 401, {"WWW-Authenticate": self.ways.asks_for or challenge(verdict)}
        if self.ways.forbids:
            return 403, {"WWW-Authenticate": self._reflect(self.ways.forbids, tokens)}
        return 200, {}

    def _reflect(self, text: str, tokens: list[str]) -> str:
        return text.replace("{token}", tokens[0] if tokens else "none")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        values = self.headers.get_all("Authorization") or []
        status, headers = self.server.answer(self.path, values)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - the base class's word

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Date" or self.server.ways.tells_time:
            super().send_header(keyword, value)

    def date_time_string(self, timestamp: float | None = None) -> str:
        now = self.server.clock.time()
        return super().date_time_string(now if timestamp is None else timestamp)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def http_server(settings: Settings | None = None, *, port: int = 0, **ways: Any) -> Iterator[str]:
    """Serve ``/mcp`` to those with a token of `settings`, or to anybody; give its URL.

    Args:
        settings: None lets everybody in.
        port: 0 is any.
        ways: See `Ways`.
    """
    server = _Server(settings, port, Ways(**ways))
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
        interceptors.append(GrpcAuthServerInterceptor(verifier))
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
