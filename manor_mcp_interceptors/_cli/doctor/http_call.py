"""One HTTP call of the doctor. It follows no redirect, so that no token reaches another server."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage
from threading import Thread
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from manor_mcp_interceptors._bearer import HEADER_NAME, format_bearer

from .answers import PRIVATE_CA_FIX, Answer, UnreachableError, redact

TIMEOUT: Final = 10.0
"""Seconds for the whole answer."""

INITIALIZE: Final = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "manor-mcp doctor", "version": "1"},
        },
    }
).encode()
"""The first message of an MCP client; most servers that are no MCP servers answer 404 or 405."""

_MAX_BYTES: Final = 65_536
_MAX_LINES: Final = 64
_UNKNOWN_CA: Final = {2, 18, 19, 20, 21}
"""OpenSSL's X509_V_ERR_* for a certificate whose issuer is not trusted."""


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class HttpServer:
    """A server that is called by its URL: as an MCP server, or with GET if it is none."""

    def __init__(self, url: str) -> None:
        """Take the URL, which holds no password."""
        self.url = url
        parts = urlsplit(url)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.address = f"{self.origin}{parts.path}"
        """The URL without its query, which may hold a secret."""
        self.speaks_mcp = True

    def call(self, token: str | None) -> Answer:
        """Call the server.

        Raises:
            UnreachableError: No answer came.
        """
        answer = self._call(token)
        if self.speaks_mcp and answer.status[:3] in {"404", "405"}:
            # The server does not take this POST. A GET shows as much about the token.
            self.speaks_mcp = False
            answer = self._call(token)
        return answer

    def _call(self, token: str | None) -> Answer:
        headers = {"Accept": "application/json, text/event-stream"}
        if self.speaks_mcp:
            headers["Content-Type"] = "application/json"
        if token is not None:
            headers[HEADER_NAME] = format_bearer(token)
        request = Request(self.url, INITIALIZE if self.speaks_mcp else None, headers)  # noqa: S310
        exchange = _Exchange(request)
        exchange.start()
        exchange.join(TIMEOUT)
        if exchange.answer is None:
            raise _unreachable(self.address, exchange.error)
        return exchange.answer


class _Exchange(Thread):
    """One request and its answer, on a thread: socket time-outs do not bound a slow answer."""

    def __init__(self, request: Request) -> None:
        super().__init__(daemon=True)
        self._request = request
        self.answer: Answer | None = None
        self.error: object = TimeoutError(f"no complete answer within {TIMEOUT:.0f} seconds")

    def run(self) -> None:
        sent = time.time()
        try:
            with _send(self._request) as response:
                self.answer = answer = _answer(response, sent)
                if self._request.data and answer.served and _is_json_rpc(response):
                    self.answer = replace(answer, is_mcp=True)
                self._end_session(response.headers)
        except URLError as error:
            self.error = error.reason
        except Exception as error:
            self.error = error

    def _end_session(self, received: HTTPMessage) -> None:
        session = received.get("Mcp-Session-Id")
        if session is not None:
            headers = {**self._request.headers, "Mcp-Session-Id": session}
            url = self._request.full_url
            _send(Request(url, None, headers, method="DELETE")).close()  # noqa: S310


def _send(request: Request) -> Any:
    """Return the response; an `HTTPError` is one, so all statuses are alike from here."""
    try:
        return build_opener(_NoRedirect).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        return error


def _answer(response: Any, sent: float) -> Answer:
    status, headers = response.status, response.headers
    words = f"{status} {response.reason}".strip()
    if status in range(300, 400):
        words = f"{words}, to {headers.get('Location', 'nowhere')}"
    return Answer(
        redact(words),
        refused=status == 401,  # noqa: PLR2004 - RFC 9110, section 15.5.2
        served=status in range(200, 300),
        challenge=redact(headers.get("WWW-Authenticate", "")),
        clock_offset=_offset(headers.get("Date"), sent),
    )


def _offset(date: str | None, sent: float) -> float | None:
    try:
        server = parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return None
    # Half a second, because a Date has whole seconds; half the way, because the call took time.
    return server + 0.5 - (sent + time.time()) / 2


def _is_json_rpc(response: Any) -> bool:
    """Return whether the body, or the first event that holds data, is JSON-RPC 2.0."""
    content_type = response.headers.get_content_type()
    try:
        if content_type == "application/json":
            return _is_message(response.read(_MAX_BYTES))
        return content_type == "text/event-stream" and _is_message(_first_event(response))
    except (OSError, HTTPException):  # cut off, or too slow
        return False


def _first_event(response: Any) -> bytes:
    for _ in range(_MAX_LINES):  # a stream need not end
        line: bytes = response.readline(_MAX_BYTES)
        field, _, value = line.partition(b":")
        if field == b"data" and value.strip():
            return value.strip()
        if not line:
            break
    return b""


def _is_message(body: bytes) -> bool:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("jsonrpc") == "2.0"


def _unreachable(address: str, error: object) -> UnreachableError:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnreachableError(f"no answer from {address}: {redact(str(why))}", _fix(error))


def _fix(error: object) -> str:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return "is the server up, is the address right, and does the network allow this call?"
    if error.verify_code in _UNKNOWN_CA:
        return PRIVATE_CA_FIX
    return "call the server by a name in its certificate; have an expired certificate renewed"
