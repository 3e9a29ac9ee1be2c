"""A real HTTP server on a thread that answers as a test tells it to, and keeps a record."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BIG = 300_000
"""Bytes of a body that no buffer on the way holds whole."""


@dataclass(frozen=True)
class Seen:
    """One request, as the server read it."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]
    """Names in lower case."""
    peer: int
    """The client's port, which tells connections apart."""

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"answer"
    chunks: Iterable[bytes] | None = None
    """A body of unknown length, in place of `body`."""


def redirect(location: str, status: int = 307) -> Answer:
    return Answer(status, {"Location": location})


Rule = Callable[[Seen], Answer]


def ok(seen: Seen) -> Answer:
    return Answer()


def refuse(seen: Seen) -> Answer:
    return Answer(401, {"WWW-Authenticate": "Bearer"})


def refusing(token: str) -> Rule:
    """Refuse one token and accept any other."""
    return lambda seen: refuse(seen) if seen.authorization == f"Bearer {token}" else ok(seen)


class HttpServer:
    """Answers each request by `rule`, which may be replaced, on another thread."""

    def __init__(self, rule: Rule = ok, certificate: Certificate | None = None) -> None:
        self.rule = rule
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.path)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> HttpServer:  # noqa: PYI034 - Self is not in 3.10's typing
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def start_over(self, rule: Rule) -> None:
        """Forget what was seen, and answer by `rule`."""
        self.rule = rule
        self.seen = []

    def answer(self, seen: Seen) -> Answer:
        with self._lock:
            self.seen.append(seen)
        return self.rule(seen)

    @property
    def tokens(self) -> list[str | None]:
        """The Authorization values, in the order of the requests."""
        return [seen.authorization for seen in self.seen]

    @property
    def paths(self) -> list[str]:
        return [f"{seen.method} {seen.path}" for seen in self.seen]


class _Server(ThreadingHTTPServer):
    owner: HttpServer
    daemon_threads = True
    block_on_close = False  # a client's idle connection is no reason to wait
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is the test's business."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, self._body(), headers, self.client_address[1])
        answer = self.server.owner.answer(seen)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.chunks is None:
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in itertools.chain(answer.chunks, [b""]):
            self._write_chunk(chunk)

    def _write_chunk(self, chunk: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the names that http.server looks for

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's
        """Log nothing."""


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""

    path: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        now = dt.datetime.now(dt.timezone.utc)
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(address, critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = folder / "server.pem"
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return cls(path)
