"""What a server answered to one call over any transport, and what that means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .checks import Check, State


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, in the words of the transport."""

    status: str
    """``401 Unauthorized``, ``UNAUTHENTICATED``."""
    refused: bool
    """Whether the server asks for a token, or for another one."""
    served: bool
    """Whether the call was accepted and carried out."""
    challenge: str = ""
    """``WWW-Authenticate``, or the message of the gRPC status."""
    clock_offset: float | None = None
    """Seconds by which the server's clock is ahead of this host's; None if it is unknown."""
    is_mcp: bool = False
    """Whether the body is JSON-RPC, as that of an MCP server is."""

    @property
    def misdirected(self) -> bool:
        """Whether the server refuses every call to this host name, with any token."""
        return self.status.startswith("421")  # RFC 9110, section 15.5.20


class UnreachableError(Exception):
    """No answer came; the text says why and holds nothing secret."""

    def __init__(self, finding: str, fix: str) -> None:
        super().__init__(finding)
        self.fix = fix


Call = Callable[[str | None], Answer]
"""Call the server with a token, or with None; raises `UnreachableError`."""

CLOCK_TOLERANCE = 2.0
"""Seconds: a ``Date`` has whole seconds, and an answer takes time."""

ACCEPTED: Final = "The server accepted the token."

HOST_CHECK: Final = (
    "the server refuses calls to this host name, as the host check of the MCP SDK does"
)
HOST_CHECK_FIX: Final = (
    'at the server: streamable_http_app(host="0.0.0.0"), or transport_security=... with this'
    " host name; without them the SDK accepts calls to localhost only"
)
PRIVATE_CA_FIX: Final = (
    "if a private CA signed the server's certificate, give the path of the CA's PEM file as"
    " SSL_CERT_FILE (for this command, httpx and httpx2), REQUESTS_CA_BUNDLE (requests) and"
    " GRPC_DEFAULT_SSL_ROOTS_FILE_PATH (gRPC)"
)

_TOKEN: Final = re.compile(r"eyJ[\w.-]{8,}", re.ASCII)
"""A JWT or the beginning of one. Each match takes the rest of the word, so the search is linear."""
_USERINFO: Final = re.compile(r"(?<=//)[^/?#\s]*@")


def redact(text: str, limit: int = 300) -> str:
    """Remove tokens and passwords from text that a server sent, then shorten it."""
    return _USERINFO.sub("", _TOKEN.sub("<token>", text))[:limit]


def check_without(answer: Answer) -> Check:
    """Judge the answer to a call without a token."""
    details = (("challenge", answer.challenge),) if answer.challenge else ()
    name = "call without a token"
    if answer.refused:
        finding = f"{answer.status}: the server asks for a token, as it should"
        return Check(name, State.OK, finding, "", details)
    if answer.served:
        finding = f"{answer.status}: the server does not ask for a token"
        fix = "turn verification on at the server when the rollout is complete"
        return Check(name, State.WARNING, finding, fix, details)
    if answer.misdirected:
        return Check(name, State.NOTE, f"{answer.status}: {HOST_CHECK}", HOST_CHECK_FIX, details)
    finding = f"{answer.status}: not about a token"
    return Check(name, State.NOTE, finding, "", details)


def check_with(bare: Answer, answer: Answer) -> Check:
    """Judge the answer to a call with the token if the server did not refuse the token."""
    details = (("challenge", answer.challenge),) if answer.challenge else ()
    name = "call with the token"
    proves = ACCEPTED if bare.refused else ""
    if answer.misdirected:
        return Check(name, State.FAILED, f"{answer.status}: {HOST_CHECK}", HOST_CHECK_FIX, details)
    if answer.served:
        what = "the server accepts the token" if bare.refused else "served, as without a token"
        return Check(name, State.OK, f"{answer.status}: {what}", "", details, proves=proves)
    if bare.refused:
        finding = f"{answer.status}: the server accepts the token, but then answers this"
        fix = "see the server's log: the token is not the cause"
        return Check(name, State.WARNING, finding, fix, details, proves=proves)
    finding = f"{answer.status} with and without a token: refused before the token was checked"
    fix = "check the URL's path, and what stands before the server: a proxy, a host check"
    return Check(name, State.FAILED, finding, fix, details)


def not_called() -> Check:
    """Return the check for a call that was not made because there is no token."""
    return Check("call with the token", State.NOTE, "not made: there is no token")


def check_clock(answer: Answer) -> Check | None:
    """Compare the clocks; None if the server does not tell the time."""
    offset = answer.clock_offset
    if offset is None:
        return None
    if abs(offset) <= CLOCK_TOLERANCE:
        return Check("clock", State.OK, "the server's clock agrees to within two seconds")
    finding = f"the server's clock is {clock_words(offset)} this host's"
    return Check("clock", State.WARNING, finding, "synchronise both clocks with NTP")


def clock_words(offset: float) -> str:
    """Return ``120 s ahead of`` or ``120 s behind``."""
    return f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'}"
