"""The auth flow of httpx and of httpx2: two libraries of one shape, whose types differ."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any, ClassVar, Final

from manor_mcp_interceptors._decision.decision import Decision

from ._bearer_flow import UNAUTHORIZED, BearerFlow, Origin, Sent, position, rewind

SENT: Final = "manor_mcp_interceptors.sent"
"""The extension of a redirected request with what the one before it carried, and where to."""


class HttpxFlow(BearerFlow):
    """Both flows are overridden: an async client must not wait for a flag on its loop's thread.

    No lock is held and nothing is read across a ``yield``.
    """

    byte_stream: ClassVar[type]
    """The library's stream for a body that is in memory."""

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send `request` with a token, and once more where that token was refused."""
        decision = self._source.provider.decision()
        carried = self._put(request, decision, request.extensions.get(SENT))
        in_memory = isinstance(request.stream, self.byte_stream)
        start = None if in_memory else self._body_start(request)
        response = yield request
        of_interest = response.status_code == UNAUTHORIZED or response.next_request is not None
        if carried is None or not of_interest:
            return
        sent = Sent(carried, request.url, start)
        if self._refused(sent, response):
            again = self._again(sent, response, self._source.provider.decision())
            if again is not None:
                response = yield response.request
                self._refused(again, response)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """As `sync_auth_flow`, without holding up the event loop where a flag is slow."""
        decision = await self._source.provider.decision_async()
        carried = self._put(request, decision, request.extensions.get(SENT))
        in_memory = isinstance(request.stream, self.byte_stream)
        start = None if in_memory else self._body_start(request)
        response = yield request
        of_interest = response.status_code == UNAUTHORIZED or response.next_request is not None
        if carried is None or not of_interest:
            return
        sent = Sent(carried, request.url, start)
        if self._refused(sent, response):
            decision = await self._source.provider.decision_async()
            again = self._again(sent, response, decision)
            if again is not None:
                response = yield response.request
                self._refused(again, response)

    def _refused(self, sent: Sent, response: Any) -> bool:
        """Return whether our token was refused; mark the request that a redirect leads to.

        The client's own redirects are over by now. One that is left to the caller is a request
        that passes here again, and must be known for what it is.
        """
        following = response.next_request
        if following is not None:
            following.extensions = {**following.extensions, SENT: sent}
        return self._was_refused(sent, response.request, response.status_code)

    def _again(self, sent: Sent, response: Any, decision: Decision) -> Sent | None:
        """Make the refused request ready for a second try; None where there is none.

        What is repeated is the request that was refused: after a redirect, the last one, for
        the first was answered.
        """
        request = response.request
        if not self._is_worth_it(sent, decision) or not self._rewind(request.stream, sent):
            return None
        if response.cookies:
            response.cookies.set_cookie_header(request)
        self._count("retries")
        return self._attach(request, decision, sent)

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
