"""`AiohttpAuth`: a token on every request of aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final
from weakref import WeakValueDictionary

from manor_mcp_interceptors._optional import needs

from ._bearer_flow import MAX_DRAIN_SECONDS, BearerFlow, Drain, Origin, Sent, rewind

with needs("aiohttp", "AiohttpAuth"):
    from aiohttp import ClientRequest, ClientResponse, MultipartWriter
    from aiohttp.payload import BytesPayload, IOBasePayload
    from yarl import URL

__all__ = ["AiohttpAuth"]

Handler = Callable[[ClientRequest], Awaitable[ClientResponse]]
"""`aiohttp.ClientHandlerType`, which older versions do not have."""

REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
NOWHERE: Final = URL()
"""In place of the URL of a call that has left its origin: no request has the origin of this."""
REDIRECTED: Final = "_manor_mcp_interceptors_redirected"
"""The attribute of a redirecting response that holds its `_RedirectedCall`."""


class AiohttpAuth(BearerFlow):
    """Puts a token on each request of a `ClientSession` that has it among its ``middlewares``.

    The token replaces the header of the caller's ``auth=``, ``headers=``, URL or ``.netrc``; if
    there is no token, that header is sent. WebSockets carry a token, too. A request that is
    refused with 401 is sent once more if the token can be renewed and the body can be sent again.
    A redirect to another origin gets no token; as in aiohttp itself, https on the same host is
    another origin than http. With ``required=True`` such a redirect raises
    `TokenUnavailableError`.
    """

    async def __call__(self, request: ClientRequest, handler: Handler) -> ClientResponse:
        """Send `request` with a token, and again if that token was refused.

        aiohttp calls this again for each redirect that it follows.

        Raises:
            TokenUnavailableError: There is no token, and a token is required.
        """
        earlier = self._earlier(request)
        sent = self._attach(request, await self._source.provider.decision_async(), earlier)
        response = await handler(request)
        if self._was_refused(sent, response.request_info, response.status):
            response = await self._retry(request, handler, sent, response)
        if response.status in REDIRECTS:
            _RedirectedCall.note(request, response, earlier.url if earlier else request.url)
        return response

    def _earlier(self, request: ClientRequest) -> Sent | None:
        """Return what a redirected request may be sent to; None for the first request of a call.

        No other adapter has to look for it: here no object that is public links the two requests.
        """
        url = _RedirectedCall.url_before(request)
        if url is None:
            return None
        is_same = self._origin(url) == self._origin(request.url)
        return Sent(request.url if is_same else NOWHERE, None, None, None)

    async def _retry(
        self, request: ClientRequest, handler: Handler, sent: Sent, refusal: ClientResponse
    ) -> ClientResponse:
        """Return the response to a second try, or `refusal`, unread, if there is none."""
        try:
            decision = await self._source.provider.decision_async()
            if not (self._may_retry_with(sent, decision) and await _is_resendable(request.body)):
                return refusal
            await _drain(refusal)
        except BaseException:
            refusal.close()  # nobody else knows this response yet
            raise
        await request.close()  # wait until the upload that the refusal interrupted has ended
        _take_cookies(request, refusal)
        request.update_expect_continue()
        retry = self._attach(request, decision, sent)
        self._count("retries")
        response = await handler(request)
        self._was_refused(retry, response.request_info, response.status)
        return response

    def _origin(self, url: URL) -> Origin:
        return Origin.of(url.scheme, url.raw_host or "", url.port)

    def _body_start(self, request: ClientRequest) -> None:
        """Return None: the payloads of aiohttp remember themselves where their files began."""


class _RedirectedCall:
    """A call of a session that was redirected; exists as long as the redirecting response.

    aiohttp makes a new request for each redirect, from the arguments of the caller. All requests
    of a call have its timer, a name with an underscore. If aiohttp drops it, every request counts
    as the redirect of any other one, so that some are sent without a token, but none leaks it.
    """

    __slots__ = ("__weakref__", "timer", "url")

    _by_timer: Final[WeakValueDictionary[int, _RedirectedCall]] = WeakValueDictionary()

    def __init__(self, timer: Any, url: URL) -> None:
        self.timer = timer  # kept, so that no other one gets its id
        self.url = url

    @classmethod
    def note(cls, request: ClientRequest, response: ClientResponse, url: URL) -> None:
        """Remember that the call, whose origin is that of `url`, is redirected by `response`."""
        timer = getattr(request, "_timer", None)
        call = cls(timer, url)
        setattr(response, REDIRECTED, call)
        cls._by_timer[id(timer)] = call

    @classmethod
    def url_before(cls, request: ClientRequest) -> URL | None:
        """Return the `url` of the redirected call that `request` continues; None if it begins."""
        call = cls._by_timer.get(id(getattr(request, "_timer", None)))
        return None if call is None else call.url


async def _is_resendable(body: Any) -> bool:
    """Return whether aiohttp sends the same bytes when it sends `body` again.

    A file is tried first: in the place of one that it cannot rewind, aiohttp sends nothing.
    """
    if isinstance(body, MultipartWriter):
        for part, *_ in body:
            if not await _is_resendable(part):
                return False
        return True
    if not isinstance(body, IOBasePayload):
        return isinstance(body, (bytes, BytesPayload))
    file, start = getattr(body, "_value", None), getattr(body, "_start_position", None)
    return not body.consumed and await asyncio.to_thread(rewind, file, start)


async def _drain(refusal: ClientResponse) -> None:
    """Read a short body, so that its connection can be used again; else close the connection."""
    with suppress(Exception):  # a broken connection is closed
        await asyncio.wait_for(_read(refusal), MAX_DRAIN_SECONDS)
    refusal.close()


async def _read(refusal: ClientResponse) -> None:
    drain = Drain()
    async for chunk in refusal.content.iter_any():
        if drain.is_over(len(chunk)):
            return


def _take_cookies(request: ClientRequest, refusal: ClientResponse) -> None:
    """Put the cookies that `refusal` has set on `request`, if the session's jar accepts them."""
    if refusal.cookies:
        jar = request.session.cookie_jar
        jar.update_cookies(refusal.cookies, refusal.url)
        accepted = jar.filter_cookies(request.url)
        request.update_cookies({n: accepted[n] for n in refusal.cookies if n in accepted})
