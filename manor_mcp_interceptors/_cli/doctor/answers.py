"""What a server answered to one call, whatever the transport, and what that means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .checks import Check, State


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, in the transport's own words."""

    status: str
    """``401 Unauthorized``, ``UNAUTHENTICATED``."""
    refused: bool
    """Whether the server asks for a token, or for another one."""
    served: bool
    """Whether the call was let in and carried out."""
    challenge: str = ""
    """``WWW-Authenticate``, or the gRPC status's message."""
    clock_offset: float | None = None
    """Seconds by which the server's clock is ahead of this host's, where it tells."""
    is_mcp: bool = False
    """Whether its body is JSON-RPC, as an MCP server's is."""

    @property
    def misdirected(self) -> bool:
        """Whether the server takes no call for this host name, with whatever token."""
        return self.status.startswith("421")  # RFC 9110, section 15.5.20


class UnreachableError(Exception):
    """No answer came; the text says why and holds nothing secret."""

    def __init__(self, finding: str, fix: str) -> None:
        super().__init__(finding)
        self.fix = fix


Call = Callable[[str | None], Answer]
"""Call the server with a token, or with None; raises `UnreachableError`."""

CLOCK_TOLERANCE = 2.0
"""Seconds: a ``Date`` is in whole seconds, and an answer takes its time."""

HOST_CHECK: Final = "the server takes no call for this host name, as the MCP SDK's host check does"
HOST_CHECK_FIX: Final = (
    'at the server: streamable_http_app(host="0.0.0.0"), or transport_security=... with this'
    " host name; without them the SDK answers to localhost alone"
)


def check_without(answer: Answer) -> Check:
    """Judge what the server says to a call without a token."""
    details = (("challenge", answer.challenge),) if answer.challenge else ()
    name = "call without a token"
    if answer.refused:
        finding = f"{answer.status}: the server asks for a token, as it should"
        return Check(name, State.OK, finding, "", details)
    if answer.served:
        finding = f"{answer.status}: the server does not ask for a token"
        fix = "turn verification on at the server, when the rollout is through"
        return Check(name, State.WARNING, finding, fix, details)
    if answer.misdirected:
        return Check(name, State.NOTE, f"{answer.status}: {HOST_CHECK}", HOST_CHECK_FIX, details)
    finding = f"{answer.status}: not about a token"
    return Check(name, State.NOTE, finding, "", details)


def check_with(bare: Answer, answer: Answer) -> Check:
    """Judge what the server says to a call with the token, unless it refuses it."""
    details = (("challenge", answer.challenge),) if answer.challenge else ()
    name = "call with the token"
    if answer.misdirected:
        return Check(name, State.FAILED, f"{answer.status}: {HOST_CHECK}", HOST_CHECK_FIX, details)
    if answer.served:
        proof = "the server accepts the token" if bare.refused else "served, as without a token"
        return Check(name, State.OK, f"{answer.status}: {proof}", "", details)
    if bare.refused:
        finding = f"{answer.status}: the server accepts the token, and then answers this"
        fix = "look at the server's log: this is no longer about the token"
        return Check(name, State.WARNING, finding, fix, details)
    finding = f"{answer.status} with and without a token: refused before anyone looked at it"
    fix = "check the URL's path, and what stands before the server: a proxy, a host check"
    return Check(name, State.FAILED, finding, fix, details)


def check_clock(answer: Answer) -> Check | None:
    """Compare the clocks, where the server tells its time."""
    offset = answer.clock_offset
    if offset is None:
        return None
    if abs(offset) <= CLOCK_TOLERANCE:
        return Check("clock", State.OK, "the server's clock agrees, to the second or two")
    finding = f"the server's clock is {clock_words(offset)} this host's"
    return Check("clock", State.WARNING, finding, "synchronise both with NTP")


def clock_words(offset: float) -> str:
    """Return ``120 s ahead of`` or ``120 s behind``."""
    return f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'}"
