"""Log the calls that observe mode lets through, bounded by caller and by minute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from manor_mcp_interceptors._telemetry.log import LogThrottle, log

from .reasons import Unverified

LINES: Final = 20
"""How many lines there may be in a minute."""
REPEAT_SECONDS: Final = 600.0
"""After how long one caller is logged again."""
CALLERS: Final = 256
"""How many callers are held; more than `LINES` lets in within `REPEAT_SECONDS`."""
SHOWN: Final = 80
"""Characters of each text that comes from the caller."""

_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Who made a call, as far as the connection shows it. Not to be trusted."""

    address: str
    """Without the port, which differs from connection to connection."""
    user_agent: str


def http_peer(client: Iterable[object] | None, headers: Iterable[tuple[bytes, bytes]]) -> Peer:
    """Return the peer of an ASGI scope's `client` and `headers`."""
    agents = [value.decode("latin-1") for name, value in headers if name.lower() == b"user-agent"]
    return Peer(str(next(iter(client or ()), "")), " ".join(agents[:1]))


def grpc_peer(address: str, metadata: Iterable[tuple[str, str | bytes]]) -> Peer:
    """Return the peer of a gRPC context's `peer()` and of a call's metadata."""
    agents = [str(value) for key, value in metadata if key == "user-agent"]
    host, colon, port = unquote(address).rpartition(":")
    return Peer(host if colon and port.isdigit() else address, " ".join(agents[:1]))


class ObservedCalls:
    """Bounded in lines and in memory, whoever calls and however often."""

    def __init__(self) -> None:
        self._callers = LogThrottle(REPEAT_SECONDS, CALLERS)
        self._minute = 0.0
        self._lines = 0

    def log(self, call: Unverified, peer: Callable[[], Peer], now: float) -> None:
        """Log the call unless its caller was logged recently, or the minute's lines are used up.

        Args:
            call: Why it would be refused.
            peer: Returns who made it.
            now: Unix time, seconds.
        """
        if not 0 <= now - self._minute < _MINUTE:
            self._minute, self._lines = now, 0
        if self._lines >= LINES:
            return
        caller = _describe(call, peer())
        if count := self._callers.due(caller, now):
            self._lines += 1
            text = "MCP auth let a call through that would be refused: %s (%d since the last line)"
            log(logging.WARNING, text, caller, count)


def _describe(call: Unverified, peer: Peer) -> str:
    parts = [f"{call.reason}: {call.detail}" if call.detail else str(call.reason)]
    parts.append(f"from {_shown(peer.address)}")
    parts.append(f"user agent {_shown(peer.user_agent)}")
    if call.subject is not None:
        parts.append(f"subject {_shown(call.subject)}")
    return ", ".join(parts)


def _shown(text: str) -> str:
    """Return `text` in quotes, cut, with everything but printable ASCII escaped."""
    return ascii(text[:SHOWN] + ("..." if len(text) > SHOWN else "")) if text else "unknown"
