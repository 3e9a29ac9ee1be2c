"""A real HTTP server for tests: it verifies the token of each request and records the request."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

from manor_mcp_interceptors._bearer import HEADER_NAME, parse_bearer
from manor_mcp_interceptors.errors import TokenRejectedError
from manor_mcp_interceptors.protocols import Clock
from manor_mcp_interceptors.settings import Settings

from .key_pair import KeyPair

__all__ = ["AuthServer", "RecordedRequest"]

POLL_SECONDS: Final = 0.02
"""How often the accepting thread checks whether to stop; `close` waits for it."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as the server received it. Its `repr` leaves out what may hold a token."""

    method: str
    path: str
    """As it was sent, with the query."""
    authorized: bool
    subject: str | None = None
    """The token's `sub`; None if the request was not authorized."""
    reason: str | None = None
    """Why it was not authorized: ``missing``, ``refused`` or a `Reason` of the verifier."""
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The token's claims; empty if the request was not authorized."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By lower-case name."""
    body: bytes = field(default=b"", repr=False)


class AuthServer:
    """An HTTP server on 127.0.0.1 that answers a good token with 200, anything else with 401.

    A context manager. It serves any method and path in background threads, and may be used from
    any thread.
    """

    def __init__(
        self, key: str | KeyPair, *, audience: str | None = None, clock: Clock | None = None
    ) -> None:
        """Make a server; `start` or ``with`` makes it listen.

        Args:
            key: The secret or the key pair that tokens must be signed with.
            audience: The `aud` that tokens must have; None is the library's default.
            clock: The clock to check `exp` with; None is the `time` module, frozen or not.
        """
        # Imported here because it imports PyJWT.
        from manor_mcp_interceptors.server.verifier import TokenVerifier

        settings = (
            Settings(secret=key) if isinstance(key, str) else Settings(jwks_file=key.jwks_file)
        )
        if audience is not None:
            settings = replace(settings, audience=audience)
        self._verifier = TokenVerifier(settings, clock=clock)
        self._lock = threading.Lock()
        self._to_refuse = 0
        self._http: _Http | None = None
        self.requests: list[RecordedRequest] = []
        """Every request so far, in the order of arrival."""
        self.reply: object = {"ok": True}
        """The answer to an authorized request, sent as JSON."""
        self.requires_token = True
        """False accepts a request without a token, as servers do during a rollout."""

    @property
    def url(self) -> str:
        """The URL of the server, such as ``http://127.0.0.1:40123``."""
        if self._http is None:
            raise RuntimeError("the server is not started: use `with`, or call start() first")
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def last(self) -> RecordedRequest:
        """The latest request; an AssertionError if there was none."""
        if not self.requests:
            raise AssertionError("no request has reached the server")
        return self.requests[-1]

    def refuse(self, times: int = 1) -> None:
        """Answer the next `times` requests with 401, whatever token they carry."""
        self._to_refuse = times

    def start(self) -> None:
        """Listen on a free port."""
        self._http = http = _Http(("127.0.0.1", 0), _Handler)
        http.auth = self
        self._thread = threading.Thread(
            target=http.serve_forever, args=(POLL_SECONDS,), name="mcp-auth-server"
        )
        self._thread.start()

    def close(self) -> None:
        """Stop, and close the connections that clients left open."""
        if self._http is None:
            return
        self._http.shutdown()
        self._thread.join()
        self._http.end_connections()
        self._http.server_close()

    def __enter__(self) -> AuthServer:  # noqa: PYI034 - typing has Self from 3.11 on
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, *, count: int = 1
    ) -> RecordedRequest:
        """Verify and record one request, with `count` ``Authorization`` headers."""
        result: dict[str, Any] = {"authorized": False}
        token = parse_bearer(headers.get(HEADER_NAME.lower(), ""))
        with self._lock:
            refused = self._to_refuse > 0
            self._to_refuse -= refused
        if refused:
            result["reason"] = "refused"
        elif count > 1:  # the server adapters refuse them too
            result["reason"] = "multiple"
        elif token is None:
            result |= {"reason": "missing", "authorized": not self.requires_token}
        else:
            try:
                verified = self._verifier.verify(token)
                result = {
                    "authorized": True,
                    "subject": verified.subject,
                    "claims": verified.claims,
                }
            except TokenRejectedError as error:
                result["reason"] = error.reason
        record = RecordedRequest(method, path, headers=headers, body=body, **result)
        self.requests.append(record)
        return record


class _Http(ThreadingHTTPServer):
    auth: AuthServer
    daemon_threads = False  # so that `server_close` waits for them

    def __init__(self, *args: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):  # the client has closed it already
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing if a client closed its connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        """Serve every method in the same way."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        auth = cast(_Http, self.server).auth
        count = len(self.headers.get_all(HEADER_NAME, []))
        record = auth._record(self.command, self.path, headers, self._body(), count=count)
        self._answer(record, auth.reply if record.authorized else {"error": "invalid_token"})

    def _answer(self, record: RecordedRequest, reply: object) -> None:
        body = json.dumps(reply).encode()
        self.send_response(200 if record.authorized else 401)
        if not record.authorized:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers, up to the empty line
            pass
        return b"".join(chunks)

    def log_message(self, *_: object) -> None:
        """Write nothing to standard error."""
