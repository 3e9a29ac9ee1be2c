"""Which HTTP requests carry a token, and which refused ones are sent again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Coroutine, Iterable
from typing import Any, Final, NamedTuple

from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors._decision.decision import Decision, without_token
from manor_mcp_interceptors._hosts import AllowedHosts, compile_hosts, normalize_host
from manor_mcp_interceptors._telemetry import otel
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._bound_provider import BoundProvider

MAX_LOGGED_HOSTS: Final = 100
"""How many hosts that a token may not go to are logged, with one line each."""
MAX_DRAINED: Final = 16_384
"""How many bytes of a refused request's response are read before the second try."""
MAX_DRAIN_SECONDS: Final = 1.0
"""How long they are read; one read may last as long as the client's time-out."""

UNAUTHORIZED: Final = 401


class Origin(NamedTuple):
    """The part of a URL that credentials depend on (RFC 6454)."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, scheme: str, host: str, port: int | None) -> Origin:
        """Return the origin; None as `port` is the default port of the scheme.

        A host with a final dot is another host, as it is for the libraries.
        """
        scheme, dot = scheme.lower(), "." if host.endswith(".") else ""
        if port is None:
            port = {"http": 80, "https": 443}.get(scheme)
        return cls(scheme, normalize_host(host) + dot, port)

    def may_redirect_to(self, target: Origin) -> bool:
        """Return whether a redirect to `target` keeps the token.

        As in requests, httpx and the MCP SDK, an upgrade to https on the default ports does. A
        redirect that the library follows itself does not pass here: the library decides.
        """
        is_upgrade = (self.scheme, self.port) == ("http", 80) and (target.scheme, target.port) == (
            "https",
            443,
        )
        return target == self or (is_upgrade and target.host == self.host)


class Sent:
    """What one request carried, and to which URL. Immutable; a pickle holds only the URL."""

    __slots__ = ("authorization", "body_start", "token", "url")

    def __init__(
        self, url: Any, token: str | None, authorization: str | None, body_start: int | None
    ) -> None:
        self.url = url
        """The request's; without a token, that of the first request in a chain of redirects."""
        self.token = token
        self.authorization = authorization
        self.body_start = body_start
        """The position in its file at which the body began; None for any other body."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, None, None, None)


class BearerFlow:
    """What the adapters of all HTTP libraries share; it imports none of these libraries."""

    def __init__(
        self,
        *,
        provider: MCPTokenProvider | None = None,
        audience: str | None = None,
        required: bool = False,
        allowed_hosts: Iterable[str] | str | None = None,
    ) -> None:
        """Make an adapter; one serves any number of clients, threads and event loops.

        Args:
            provider: None is the process-wide one, looked up at each request.
            audience: The server's `aud`; None is the configured one.
            required: Raise `TokenUnavailableError` instead of sending a request without a token.
            allowed_hosts: Hosts that a token may go to, as a list or as text with commas:
                ``"mcp.example.com"``, with a port ``"mcp.example.com:8443"``, with all names
                under it ``"*.example.com"``. None leaves it to ``MCP_AUTH_ALLOWED_HOSTS``.

        Raises:
            SettingsError: `audience` or `allowed_hosts` is malformed.
        """
        self._bound = BoundProvider(provider, audience, required=required)
        self._hosts = None if allowed_hosts is None else _compile(allowed_hosts)
        self._logged_hosts = LogThrottle(math.inf, MAX_LOGGED_HOSTS)

    def _origin(self, url: Any) -> Origin:
        """Return the origin that the library would connect to for `url`."""
        raise NotImplementedError

    def _body_start(self, request: Any) -> int | None:
        """Return the position in its file at which the body begins; None for any other body."""
        raise NotImplementedError

    def _attach(self, request: Any, decision: Decision, earlier: Sent | None) -> Sent:
        """Put the token on `request`, if there is one; return what it carries.

        Args:
            request: Any library's, with ``url`` and ``headers``.
            decision: The provider's.
            earlier: What the request carried that `request` is a redirected copy of.

        Raises:
            TokenUnavailableError: There is no token, and a token is required.
        """
        # Hot path: each extra function call is measurable.
        if earlier is not None or (self._hosts or decision.allowed_hosts) is not None:
            decision = self._scoped(decision, request.url, earlier)
        if decision.token is None or otel.annotate is not None:
            decision = self._bound.enforce(decision)
        if decision.authorization is None:
            if earlier and request.headers.get(HEADER_NAME) == earlier.authorization:
                request.headers.pop(HEADER_NAME, None)  # our token, copied by the redirect
            return Sent(earlier.url if earlier else request.url, None, None, None)
        request.headers[HEADER_NAME] = decision.authorization
        start = self._body_start(request)
        return Sent(request.url, decision.token, decision.authorization, start)

    def _scoped(self, decision: Decision, url: Any, earlier: Sent | None) -> Decision:
        """Return `decision`, or a refusal if its token may not go to `url`."""
        hosts = self._hosts or decision.allowed_hosts
        if (hosts is None and earlier is None) or decision.token is None:
            return decision
        origin = self._origin(url)
        if earlier is not None and not self._origin(earlier.url).may_redirect_to(origin):
            return self._not_allowed(origin.host, "a redirect led to another origin")
        if hosts is not None and not hosts.allow(normalize_host(origin.host), origin.port):
            return self._not_allowed(origin.host, "it is not among the allowed hosts")
        return decision

    def _not_allowed(self, host: str, why: str) -> Decision:
        outcome = Outcome.TARGET_NOT_ALLOWED
        self._bound.provider.count_decision(outcome)
        reason = f"{host[:255]!r} may not have a token: {why}"
        if self._logged_hosts.due(host):
            log(logging.WARNING, "MCP auth %s: %s", outcome, reason)
        return without_token(outcome, reason)

    def _count(self, name: str) -> None:
        self._bound.provider.counters.count(name)

    def _was_refused(self, sent: Sent, answered: Any, status: int) -> bool:
        """Return whether `status` refuses our token; it is then reported to the provider.

        Args:
            sent: What the first request carried.
            answered: The request that was answered, perhaps after redirects.
            status: The response's.
        """
        if status != UNAUTHORIZED or sent.token is None:
            return False
        if answered.headers.get(HEADER_NAME) != sent.authorization:
            return False
        if self._origin(answered.url) != self._origin(sent.url):
            return False
        self._bound.provider.invalidate(sent.token)
        return True

    def _may_retry_with(self, sent: Sent, decision: Decision) -> bool:
        """Return whether `decision` has a different token that the URL of `sent` may receive."""
        decision = self._scoped(decision, sent.url, sent)
        return decision.token is not None and decision.token != sent.token


def _compile(patterns: Iterable[str] | str) -> AllowedHosts:
    try:
        return compile_hosts(patterns)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"allowed_hosts: {error}", variable="allowed_hosts") from None


class Drain:
    """Limits how much of a refused request's response is read to use its connection again."""

    def __init__(self) -> None:
        self._bytes_left = MAX_DRAINED
        self._ends_at = time.monotonic() + MAX_DRAIN_SECONDS

    def is_over(self, size: int) -> bool:
        """Count `size` bytes; return whether the connection is to be closed instead."""
        self._bytes_left -= size
        return self._bytes_left <= 0 or time.monotonic() >= self._ends_at


def position(file: Any) -> int | None:
    """Return the position of `file`; None if it has none."""
    try:
        start = _not_awaitable(file.tell())
    except Exception:  # whatever a file-like object raises when it has no position
        return None
    return start if type(start) is int else None


def rewind(file: Any, start: int | None) -> bool:
    """Return whether `file` is at `start` again and has something to read there.

    This is checked, since an object with these methods may be asynchronous, closed or used up.
    """
    if start is None:
        return False
    try:
        _not_awaitable(file.seek(start))
        first = _not_awaitable(file.read(1))
        _not_awaitable(file.seek(start))
    except Exception:  # a closed file, a pipe, no file at all
        return False
    return isinstance(first, (bytes, str)) and first != first[:0] and position(file) == start


def _not_awaitable(result: Any) -> Any:
    if isinstance(result, Coroutine):
        result.close()  # else Python warns that nobody awaited it
        raise TypeError
    return result
