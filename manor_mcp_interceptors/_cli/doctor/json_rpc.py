"""Is it an MCP server that answered? Its body is JSON-RPC, as JSON or as an event of a stream."""

from __future__ import annotations

import json
import time
from http.client import HTTPException
from typing import Any, Final

_MAX_BYTES: Final = 65_536
_MAX_LINES: Final = 64
_MAX_SECONDS: Final = 10.0
"""A stream need not end, and may keep a reader busy with comments meanwhile."""


def is_json_rpc(response: Any) -> bool:
    """Return whether the body, or the first event that holds anything, is JSON-RPC 2.0."""
    content_type = response.headers.get_content_type()
    try:
        if content_type == "application/json":
            return _is_message(response.read(_MAX_BYTES))
        return content_type == "text/event-stream" and _is_message(_first_event(response))
    except (OSError, HTTPException):  # cut off, or too slow
        return False


def _first_event(response: Any) -> bytes:
    give_up = time.monotonic() + _MAX_SECONDS
    for _ in range(_MAX_LINES):
        line: bytes = response.readline(_MAX_BYTES)
        field, _, value = line.partition(b":")
        if field == b"data" and value.strip():
            return value.strip()
        if not line or time.monotonic() > give_up:
            break
    return b""


def _is_message(body: bytes) -> bool:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("jsonrpc") == "2.0"
