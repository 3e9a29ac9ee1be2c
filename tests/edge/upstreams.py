"""The services behind a proxy: they record what reaches them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

EVENTS = "/events"
"""The path that answers with a stream of two events."""
CASE = "x-case"
"""The header by which a test finds its call again."""


@dataclass
class Upstreams:
    """An HTTP and a gRPC service."""

    http: str
    """``HOST:PORT``."""
    grpc: str
    calls: list[list[tuple[str, str]]] = field(default_factory=list, repr=False)
    """The headers or metadata of each call, names in lower case."""
    more: threading.Event = field(default_factory=threading.Event)
    """Set: a stream of events continues after its first one."""

    def received(self, case: str) -> list[dict[str, list[str]]]:
        """Return the headers of each call of `case`."""
        found = []
        for call in list(self.calls):
            if (CASE, case) in call:
                names = {name for name, _ in call}
                found.append({n: [value for name, value in call if name == n] for n in names})
        return found


@contextmanager
def upstreams() -> Iterator[Upstreams]:
    """Serve both on loopback until the context ends."""
    services = Upstreams("", "")
    with _http_service(services), _grpc_service(services):
        yield services


@contextmanager
def _http_service(services: Upstreams) -> Iterator[None]:
    class Handler(_Recorder):
        calls = services.calls
        more = services.more

    server = _Server(("127.0.0.1", 0), Handler)
    services.http = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a proxy resets connections that it no longer needs."""


class _Recorder(BaseHTTPRequestHandler):
    """Records the headers, and answers with them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    calls: list[list[tuple[str, str]]]
    more: threading.Event

    def do_GET(self) -> None:
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        self.calls.append(headers)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == EVENTS:
            self._send_events()
            return
        body = json.dumps(headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815
    do_CONNECT = do_GET  # noqa: N815 - like services that look at no method

    def _send_events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"9\r\ndata: 1\n\n\r\n")
        self.more.wait(10)
        self.wfile.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Log nothing."""


@contextmanager
def _grpc_service(services: Upstreams) -> Iterator[None]:
    server = grpc.server(
        futures.ThreadPoolExecutor(16), options=[("grpc.max_metadata_size", 65_536)]
    )
    server.add_generic_rpc_handlers((_Echo(services.calls),))
    services.grpc = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


class _Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Records the metadata; sends each message back."""

    def __init__(self, calls: list[list[tuple[str, str]]]) -> None:
        self._calls = calls
        self._handlers = {
            "/edge.Echo/Unary": grpc.unary_unary_rpc_method_handler(lambda one, _: one),
            "/edge.Echo/ServerStream": grpc.unary_stream_rpc_method_handler(
                lambda one, _: iter([one] * 3)
            ),
            "/edge.Echo/ClientStream": grpc.stream_unary_rpc_method_handler(
                lambda many, _: b"".join(many)
            ),
            "/edge.Echo/Bidi": grpc.stream_stream_rpc_method_handler(lambda many, _: many),
        }

    def service(self, details: Any) -> Any:
        metadata = details.invocation_metadata or ()
        self._calls.append([(name, str(value)) for name, value in metadata])
        return self._handlers.get(details.method)
