"""The auth flow of httpx and of httpx2: two libraries of one shape, whose types differ."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, ClassVar, Final

from manor_mcp_interceptors.outcomes import Decision

from ._bearer_flow import UNAUTHORIZED, BearerFlow, Origin, Sent, position, rewind

SENT: Final = "manor_mcp_interceptors.sent"
"""The request extension with what the request carried: a redirected copy takes it along."""


class HttpxFlow(BearerFlow):
    """Both flows are overridden: an async client must not wait for a flag on its loop's thread.

    No lock is held and nothing is read across a ``yield``.
    """

    byte_stream: ClassVar[type]
    """The library's stream for a body that is in memory."""

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send `request` with a token, and once more where that token was refused."""
        sent = self._send(request, self._source.provider.decision())
        response = yield request
        if response.status_code == UNAUTHORIZED and self._refused(sent, response):
            again = self._again(sent, response, self._source.provider.decision())
            if again is not None:
                response = yield response.request
                self._refused(again, response)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """As `sync_auth_flow`, without holding up the event loop where a flag is slow."""
        provider = self._source.provider
        sent = self._send(request, provider.leased() or await provider.decision_async())
        response = yield request
        if response.status_code == UNAUTHORIZED and self._refused(sent, response):
            decision = await self._source.provider.decision_async()
            again = self._again(sent, response, decision)
            if again is not None:
                response = yield response.request
                self._refused(again, response)

    def _send(self, request: Any, decision: Decision) -> Sent | None:
        sent = self._attach(request, decision, request.extensions.get(SENT))
        if sent is not None:
            # A new dict: the caller may share theirs among requests.
            request.extensions = {**request.extensions, SENT: sent}
        return sent

    def _refused(self, sent: Sent | None, response: Any) -> bool:
        if sent is None:
            return False
        return self._was_refused(sent, response.request, response.status_code)

    def _again(self, sent: Sent | None, response: Any, decision: Decision) -> Sent | None:
        """Make the refused request ready for a second try; None where there is none.

        What is repeated is the request that was refused: after a redirect, the last one, for
        the first was answered.
        """
        request = response.request
        if sent is None or not self._is_worth_it(sent, decision):
            return None
        if not self._rewind(request.stream, sent):
            return None
        if response.cookies:
            response.cookies.set_cookie_header(request)
        self._count("retries")
        return self._send(request, decision)

    def _origin(self, url: Any) -> Origin:
        return Origin.of(url.scheme, url.raw_host.decode("ascii"), url.port)

    def _body_start(self, request: Any) -> int | None:
        if isinstance(request.stream, self.byte_stream):
            return None
        return position(getattr(request.stream, "_stream", None))

    def _rewind(self, stream: Any, sent: Sent) -> bool:
        """Return whether `stream` yields its bytes once more; a file is rewound for it.

        Names with an underscore are the libraries' own. Where one is gone, there is no retry.
        """
        if isinstance(stream, self.byte_stream):
            return True
        if type(stream).__name__ == "MultipartStream":
            parts = [getattr(part, "file", b"") for part in getattr(stream, "fields", [None])]
            return all(isinstance(part, (bytes, str)) or _is_seekable(part) for part in parts)
        source = getattr(stream, "_stream", None)
        return isinstance(source, (list, tuple)) or rewind(source, sent.body_start)


def _is_seekable(file: Any) -> bool:
    """Return whether a multipart body may be sent again: it rewinds its files by itself."""
    try:
        return bool(file.seekable())
    except Exception:  # a closed file
        return False
