"""Which HTTP request carries a token, and whether a refused one is worth a second try."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors._decision.decision import Decision, without_token
from manor_mcp_interceptors._hosts import AllowedHosts, compile_hosts, normalize_host
from manor_mcp_interceptors._telemetry import otel
from manor_mcp_interceptors._telemetry.log import log
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.provider import MCPTokenProvider

from ._token_source import TokenSource

MAX_TOLD: Final = 100
"""How many hosts that may not have a token are logged, one line each."""

UNAUTHORIZED: Final = 401


class Origin(NamedTuple):
    """Where a request goes, as far as credentials are concerned (RFC 6454)."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, scheme: str, host: str, port: int | None) -> Origin:
        """Return the origin with the scheme's own port where none is given.

        A final dot makes another host, as it does for the libraries.
        """
        scheme, dot = scheme.lower(), "." if host.endswith(".") else ""
        if port is None:
            port = {"http": 80, "https": 443}.get(scheme)
        return cls(scheme, normalize_host(host) + dot, port)


class Sent:
    """What one request carried, and where to. Nobody changes it."""

    __slots__ = ("body_start", "decision", "url")

    def __init__(self, decision: Decision, url: Any, body_start: int | None) -> None:
        self.decision = decision
        self.url = url
        self.body_start = body_start
        """Where in its file the body began; None for any other body."""


class BearerFlow:
    """What the adapters of all HTTP libraries share; it imports none of them."""

    def __init__(
        self,
        *,
        provider: MCPTokenProvider | None = None,
        audience: str | None = None,
        required: bool = False,
        allowed_hosts: Iterable[str] | None = None,
    ) -> None:
        """Make an adapter; one serves any number of clients, threads and event loops.

        Args:
            provider: None is the process-wide one, looked up at each request.
            audience: The server's `aud`; None is the configured one.
            required: Raise `TokenUnavailableError` rather than send a request without a token.
            allowed_hosts: Hosts that a token may go to: ``"mcp.example.com"``, with a port
                ``"mcp.example.com:8443"``, with all names under it ``"*.example.com"``. None
                leaves it to ``MCP_AUTH_ALLOWED_HOSTS``.

        Raises:
            SettingsError: `audience` or `allowed_hosts` has not the form it must have.
        """
        self._source = TokenSource(provider, audience, required=required)
        self._hosts = None if allowed_hosts is None else _compile(allowed_hosts)
        self._told: set[str] = set()

    def _origin(self, url: Any) -> Origin:
        """Return where the library would connect to for `url`."""
        raise NotImplementedError

    def _body_start(self, request: Any) -> int | None:
        """Return where in its file the body of `request` begins; None for any other body."""
        raise NotImplementedError

    def _put(self, request: Any, decision: Decision, earlier: Sent | None) -> Decision | None:
        """Put the token on `request`; return the decision it is of, None where it goes without.

        Args:
            request: Any library's, with ``url`` and ``headers``.
            decision: The provider's.
            earlier: What the request carried that `request` is a redirected copy of.

        Raises:
            TokenUnavailableError: There is no token, and a token is required.
        """
        # Each call that is not made here is one of a few that a request can notice.
        if earlier is not None or (self._hosts or decision.allowed_hosts) is not None:
            decision = self._scoped(decision, request.url, earlier)
        if decision.token is None or otel.annotate is not None:
            decision = self._source.enforce(decision)
        if decision.authorization is None:
            if earlier and request.headers.get(HEADER_NAME) == earlier.decision.authorization:
                del request.headers[HEADER_NAME]  # ours, copied by the redirect
            return None
        request.headers[HEADER_NAME] = decision.authorization
        return decision

    def _attach(self, request: Any, decision: Decision, earlier: Sent | None) -> Sent | None:
        """As `_put`; return all that there is to know of what was sent."""
        carried = self._put(request, decision, earlier)
        return None if carried is None else Sent(carried, request.url, self._body_start(request))

    def _scoped(self, decision: Decision, url: Any, earlier: Sent | None) -> Decision:
        """Return `decision`, or a refusal where its token may not go to `url`."""
        hosts = self._hosts or decision.allowed_hosts
        if (hosts is None and earlier is None) or decision.token is None:
            return decision
        origin = self._origin(url)
        if earlier is not None and self._origin(earlier.url) != origin:
            return self._not_allowed(origin.host, "a redirect led to another origin")
        if hosts is not None and not hosts.allow(normalize_host(origin.host), origin.port):
            return self._not_allowed(origin.host, "it is not among the allowed hosts")
        return decision

    def _not_allowed(self, host: str, why: str) -> Decision:
        outcome = Outcome.TARGET_NOT_ALLOWED
        self._count("decisions", outcome.value)
        reason = f"{host[:255]!r} may not have a token: {why}"
        if host not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(host)
            log(logging.WARNING, "MCP auth %s: %s", outcome, reason)
        return without_token(outcome, reason)

    def _count(self, name: str, word: str = "") -> None:
        self._source.provider.counters.count(name, word)

    def _was_refused(self, sent: Sent, answered: Any, status: int) -> bool:
        """Return whether `status` refuses our token; the provider has then been told.

        Args:
            sent: What the first request carried.
            answered: The request that was answered, perhaps after redirects.
            status: The answer's.
        """
        carried = sent.decision
        if status != UNAUTHORIZED or answered.headers.get(HEADER_NAME) != carried.authorization:
            return False
        if carried.token is None or self._origin(answered.url) != self._origin(sent.url):
            return False
        self._source.provider.invalidate(carried.token)
        return True

    def _is_worth_it(self, sent: Sent, decision: Decision) -> bool:
        """Return whether the token of `decision` is another one, and may go where `sent` went."""
        decision = self._scoped(decision, sent.url, sent)
        return decision.token is not None and decision.token != sent.decision.token


def _compile(patterns: Iterable[str]) -> AllowedHosts:
    if isinstance(patterns, str):
        raise SettingsError("allowed_hosts is a list of hosts, not text", variable="allowed_hosts")
    given = tuple(patterns)
    if not given:
        raise SettingsError("allowed_hosts is empty; None allows any", variable="allowed_hosts")
    try:
        return compile_hosts(given)
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"allowed_hosts: {error}", variable="allowed_hosts") from None


def position(file: Any) -> int | None:
    """Return where `file` stands; None where it cannot tell, or is no file."""
    try:
        start: int = file.tell()
    except Exception:  # whatever a file-like object does where it has no position
        return None
    return start


def rewind(file: Any, start: int | None) -> bool:
    """Return whether `file` now stands where it did before."""
    try:
        file.seek(start)
    except Exception:  # a closed file, a pipe, no file at all
        return False
    return start is not None
