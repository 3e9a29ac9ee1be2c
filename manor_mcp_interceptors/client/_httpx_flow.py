"""The auth flow of httpx and of httpx2: two libraries of one shape, with different types."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, ClassVar, Final

from manor_mcp_interceptors._decision.decision import Decision

from ._bearer_flow import UNAUTHORIZED, BearerFlow, Drain, Origin, Sent, position, rewind

SENT: Final = "_manor_mcp_interceptors_sent"
"""The attribute of a redirected request that holds what the one before it carried.

The libraries copy and pickle attributes, but not a request's extensions.
"""


class HttpxFlow(BearerFlow):
    """One generator holds the logic of the sync and of the async flow.

    No lock is held and nothing is read across a ``yield``.
    """

    library: ClassVar[Any]
    refusal_body: ClassVar[type]
    """A `RefusalBody` that is a stream of the library."""

    def __repr__(self) -> str:
        """Name both classes: a client of the other library shows this when it refuses the auth."""
        return (
            f"<{type(self).__name__}: httpx takes HttpxAuth, httpx2 takes Httpx2Auth,"
            " and mcp_auth() makes the one that the installed mcp SDK takes>"
        )

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send `request` with a token, and again if that token was refused."""
        decide = self._bound.provider.decision
        return self._steps(request, decide(), decide)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """As `auth_flow`, without the generator that the library puts around it."""
        return self.auth_flow(request)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """As `auth_flow`; the event loop continues while a flag is slow."""
        decide = self._bound.provider.decision_async
        steps = self._steps(request, await decide(), _no_decision_yet)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(await decide() if wanted is None else (yield wanted))
        except StopIteration:
            return
        except GeneratorExit:
            pass
        steps.close()  # outside the handler, so that `_steps` finds the exception of the client
        raise GeneratorExit

    def _steps(
        self, request: Any, decision: Decision, decide: Callable[[], Decision | None]
    ) -> Generator[Any, Any, None]:
        """Yield a request and receive its response; yield None and receive the next decision.

        Args:
            request: The first to send.
            decision: The provider's, for this request.
            decide: Returns the decision for the second try, or None to have it sent.
        """
        sent = self._attach(request, decision, getattr(request, SENT, None))
        try:
            response = yield request
            needs_handling = response.status_code == UNAUTHORIZED or response.next_request
            if not needs_handling or not self._is_refusal(sent, response):
                return
            retry = self._prepare_retry(sent, response, decide() or (yield))
            if retry is not None:
                sent = retry
                response = yield response.request
                self._is_refusal(sent, response)
        except GeneratorExit as closed:
            self._report_hidden_refusal(sent, closed.__context__)
            raise

    def _is_refusal(self, sent: Sent, response: Any) -> bool:
        """Return whether our token was refused; mark the request that a redirect leads to.

        The client has followed its redirects by now. A caller may send the next request, which
        passes through the flow again and must be recognized.
        """
        if response.next_request is not None:
            setattr(response.next_request, SENT, sent)
        return self._was_refused(sent, response.request, response.status_code)

    def _report_hidden_refusal(self, sent: Sent, error: BaseException | None) -> None:
        """Report the 401 that an event hook of the client has turned into an exception."""
        if isinstance(error, self.library.HTTPStatusError):
            self._was_refused(sent, error.response.request, error.response.status_code)

    def _prepare_retry(self, sent: Sent, response: Any, decision: Decision) -> Sent | None:
        """Make the refused request ready for a second try; return None if there is none.

        After redirects this is the last request: the first one was answered.
        """
        request = response.request
        if not self._may_retry_with(sent, decision) or not self._rewind(request.stream, sent):
            return None
        if response.cookies:
            response.cookies.set_cookie_header(request)
        response.stream = self.refusal_body(response.stream)
        # The library decodes the body, and fails if it ends early.
        response.headers.pop("content-encoding", None)
        self._count("retries")
        return self._attach(request, decision, sent)

    def _origin(self, url: Any) -> Origin:
        return Origin.of(url.scheme, url.raw_host.decode("ascii"), url.port)

    def _body_start(self, request: Any) -> int | None:
        stream = request.stream
        return None if isinstance(stream, self.library.ByteStream) else position(_source(stream))

    def _rewind(self, stream: Any, sent: Sent) -> bool:
        """Return whether `stream` yields the same bytes again; a file is rewound for it."""
        if isinstance(stream, self.library.ByteStream):
            return True
        if type(stream).__name__ == "MultipartStream":  # it starts each file from its beginning
            parts = [getattr(part, "file", b"") for part in getattr(stream, "fields", [None])]
            return all(isinstance(part, (bytes, str)) or rewind(part, 0) for part in parts)
        source = _source(stream)
        return type(source) in (list, tuple) or rewind(source, sent.body_start)


def _no_decision_yet() -> None:
    """Stand in for a decision that has to be awaited."""


def _source(stream: Any) -> Any:
    """Return what a body is read from; None for a stream of the application's or an async one.

    Names with an underscore belong to the libraries. If one is gone, there is no second try.
    """
    is_known = type(stream).__name__ == "IteratorByteStream"
    return getattr(stream, "_stream", None) if is_known else None


class RefusalBody:
    """The body of a refused request's response, which the library reads before the second try.

    It ends early if it is long or slow; the library then closes the connection.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        drain = Drain()
        with suppress(Exception):  # a broken connection is closed
            for chunk in self._stream:
                yield chunk
                if drain.is_over(len(chunk)):
                    return

    async def __aiter__(self) -> AsyncIterator[bytes]:
        drain = Drain()
        with suppress(Exception):
            async for chunk in self._stream:
                yield chunk
                if drain.is_over(len(chunk)):
                    return

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()
