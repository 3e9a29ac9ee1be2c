"""`AiohttpAuth`: a token on every request of aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Final
from weakref import finalize

from manor_mcp_interceptors._bearer import HEADER_NAME, HiddenBearer
from manor_mcp_interceptors._decision.decision import Decision
from manor_mcp_interceptors._optional import needs

from ._bearer_flow import MAX_DRAIN_SECONDS, UNAUTHORIZED, BearerFlow, Drain, Origin, Sent, rewind

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
_redirected: Final[dict[int, Sent]] = {}
"""Where a redirected call was sent, by the id of its timer, while its last redirect exists.

aiohttp makes a new request for each redirect, from the arguments of the caller. What all requests
and responses of a call share is the timer, a name with an underscore. If aiohttp drops it, every
request counts as a redirect of any other one: some are sent without a token, but none leaks it.
"""


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
        earlier = self._earlier(request) if _redirected else None
        sent = self._attach(request, await self._bound.provider.decision_async(), earlier)
        response = await handler(request)
        if response.status == UNAUTHORIZED:
            response = await self._handle_refusal(request, handler, sent, response)
        if response.status in REDIRECTS:
            _note_redirect(request, response, earlier.url if earlier else request.url)
        return response

    def _earlier(self, request: ClientRequest) -> Sent | None:
        """Return where a redirected call was sent before; None for the first request of a call."""
        before = _redirected.get(_id_of_call(request))
        if before is None:
            return None
        is_same = self._origin(before.url) == self._origin(request.url)
        return Sent(request.url if is_same else NOWHERE, None, None, None)

    async def _handle_refusal(
        self, request: ClientRequest, handler: Handler, sent: Sent, refusal: ClientResponse
    ) -> ClientResponse:
        """Return the response to a second try, or `refusal`, unread, if there is none."""
        if not self._was_refused(sent, refusal.request_info, refusal.status):
            return refusal
        try:
            decision = await self._bound.provider.decision_async()
            if not (self._may_retry_with(sent, decision) and await _is_resendable(request)):
                return refusal
            await _drain(refusal, is_sent=_is_sent(request))
        except BaseException:
            refusal.close()  # nobody else knows this response yet
            raise
        _take_cookies(request, refusal)
        request.update_expect_continue()
        retry = self._attach(request, decision, sent)
        self._count("retries")
        response = await handler(request)
        self._was_refused(retry, response.request_info, response.status)
        return response

    def _attach(self, request: ClientRequest, decision: Decision, earlier: Sent | None) -> Sent:
        sent = super()._attach(request, decision, earlier)
        if sent.authorization is not None:
            request.headers[HEADER_NAME] = HiddenBearer(sent.authorization)
        elif isinstance(request.headers.get(HEADER_NAME), HiddenBearer):
            del request.headers[HEADER_NAME]  # another middleware sends the request again
        return sent

    def _origin(self, url: URL) -> Origin:
        return Origin.of(url.scheme, url.raw_host or "", url.port)

    def _body_start(self, request: ClientRequest) -> None:
        """Return None: a payload of aiohttp keeps the position at which its file began."""


def _id_of_call(request: ClientRequest) -> int:
    return id(getattr(request, "_timer", None))


def _note_redirect(request: ClientRequest, response: ClientResponse, url: URL) -> None:
    """Note that `response` redirects a call, which has the origin of `url`."""
    call, sent = _id_of_call(request), Sent(url, None, None, None)
    _redirected[call] = sent
    finalize(response, _forget, call, sent).atexit = False


def _forget(call: int, sent: Sent) -> None:
    if _redirected.get(call) is sent:  # and not that of a later redirect
        del _redirected[call]


async def _is_resendable(request: ClientRequest) -> bool:
    """Return whether aiohttp sends the same bytes when it sends the body of `request` again.

    A file is tried first: in the place of one that it cannot rewind, aiohttp sends nothing.
    While a file is still being sent, a thread reads it, which cannot be stopped.
    """
    for payload in _payloads(request.body):
        if isinstance(payload, (bytes, BytesPayload)):
            continue
        if not (isinstance(payload, IOBasePayload) and _is_sent(request)):
            return False
        file, start = getattr(payload, "_value", None), getattr(payload, "_start_position", None)
        if not await asyncio.to_thread(rewind, file, start):
            return False
    return True


def _is_sent(request: ClientRequest) -> bool:
    """Return whether no part of the body of `request` remains to be sent."""
    return getattr(request, "_writer", request) is None


def _payloads(body: Any) -> Iterator[Any]:
    """Yield `body`, or what it is composed of."""
    if not isinstance(body, MultipartWriter):
        yield body
        return
    for part, *_ in body:
        yield from _payloads(part)


async def _drain(refusal: ClientResponse, *, is_sent: bool) -> None:
    """Read a short body, so that its connection can be used again; else close the connection.

    A connection on which a part of the request is missing cannot be used again.
    """
    if is_sent:
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
