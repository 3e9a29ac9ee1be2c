"""One HTTP call of the doctor's: no redirect is followed, so no token goes astray."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from manor_mcp_interceptors._bearer import HEADER_NAME, format_bearer

from .answers import Answer, UnreachableError
from .foreign import shown
from .json_rpc import is_json_rpc

TIMEOUT: Final = 10.0
"""Seconds."""

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
"""How an MCP client begins; a server that speaks no MCP mostly answers 404 or 405."""


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_opener: Final = build_opener(_NoRedirect)


class HttpServer:
    """A server that is called by its URL: as an MCP server, or with GET where it is none."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.speaks_mcp = True

    def call(self, token: str | None) -> Answer:
        """Call the server.

        Raises:
            UnreachableError: No answer came.
        """
        answer = self._call(token)
        if self.speaks_mcp and answer.status[:3] in {"404", "405"}:
            # Not the way to call it. A GET tells the same of the token.
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
        sent = time.time()
        try:
            with _send(request) as response:
                answer = _answer(response.status, response.reason, response.headers, sent)
                is_mcp = self.speaks_mcp and answer.served and is_json_rpc(response)
                self._end_session(response.headers, headers)
                return replace(answer, is_mcp=is_mcp)
        except URLError as error:
            raise _unreachable(self.url, error.reason) from None
        except (OSError, HTTPException) as error:
            raise _unreachable(self.url, error) from None

    def _end_session(self, received: HTTPMessage, headers: dict[str, str]) -> None:
        session = received.get("Mcp-Session-Id")
        if session is None:
            return
        goodbye = Request(  # noqa: S310 - the command line takes http and https alone
            self.url, None, {**headers, "Mcp-Session-Id": session}, method="DELETE"
        )
        try:
            _send(goodbye).close()
        except (OSError, HTTPException):  # the server ends it by itself, later
            return


def _send(request: Request) -> Any:
    """Return the response; urllib's error *is* one, so both kinds are the same from here."""
    try:
        return _opener.open(request, timeout=TIMEOUT)
    except HTTPError as error:
        return error


def _answer(status: int, reason: str, headers: HTTPMessage, sent: float) -> Answer:
    words = f"{status} {reason}".strip()
    if status in range(300, 400):
        words = f"{words}, to {headers.get('Location', 'nowhere')}"
    return Answer(
        shown(words),
        refused=status == 401,  # noqa: PLR2004 - RFC 9110, section 15.5.2
        served=status in range(200, 300),
        challenge=shown(headers.get("WWW-Authenticate", "")),
        clock_offset=_offset(headers.get("Date"), sent),
    )


def _offset(date: str | None, sent: float) -> float | None:
    try:
        server = parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return None
    # Half a second, because a Date is cut off to whole ones; half the way, because it took time.
    return server + 0.5 - (sent + time.time()) / 2


def _unreachable(url: str, error: object) -> UnreachableError:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UnreachableError(
        f"no answer from {url}: {shown(str(why))}",
        "is the server up, is the address right, and does the network let this host through?",
    )
