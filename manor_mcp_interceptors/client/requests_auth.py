"""`RequestsAuth`: a token on every request of requests."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from manor_mcp_interceptors._bearer import HEADER_NAME

from ._bearer_flow import BearerFlow, Origin, Sent, position, rewind

try:
    from requests import PreparedRequest, RequestException, Response
    from requests.auth import AuthBase
    from requests.cookies import extract_cookies_to_jar
except ModuleNotFoundError as _missing:
    if _missing.name != "requests":
        raise
    msg = "RequestsAuth needs requests: pip install 'manor-mcp-interceptors[requests]'"
    raise ModuleNotFoundError(msg, name="requests") from _missing

__all__ = ["RequestsAuth"]

FIRST_OF_INTEREST: Final = 300
"""The lowest status that has us do anything: redirects, and 401."""


class RequestsAuth(BearerFlow, AuthBase):
    """Puts a token on each request of a `Session`, or of a call without one.

    A request that is refused with 401 is sent once more where the token is renewed and the body
    can be sent again. A redirect to another origin gets no token.
    """

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the token on `request`, and watch for its answer."""
        hooks = request.hooks["response"]
        old = next((hook for hook in hooks if isinstance(hook, _AnswerHook)), None)
        earlier = None if old is None else old._sent
        sent = self._attach(request, self._source.provider.decision(), earlier)
        if sent is not None:
            if old is not None:
                hooks.remove(old)
            hooks.append(_AnswerHook(self, sent))
        return request

    def _answered(self, sent: Sent, response: Response, options: dict[str, Any]) -> Response:
        """Return `response`, or that of a second try with the same `options`."""
        request, status = response.request, response.status_code
        if status < FIRST_OF_INTEREST:
            return response
        if self._was_refused(sent, request, status):
            response = self._try_again(sent, response, options)
        if response.is_redirect:
            self._keep_home(sent, response, request)
        return response

    def _try_again(self, sent: Sent, response: Response, options: dict[str, Any]) -> Response:
        decision = self._source.provider.decision()
        connection = getattr(response, "connection", None)
        if connection is None or not self._is_worth_it(sent, decision):
            return response
        if not _rewind_body(response.request, sent):
            return response
        # From here as requests' own HTTPDigestAuth does it.
        _release(response)
        request: Any = response.request.copy()
        extract_cookies_to_jar(  # type: ignore[no-untyped-call]
            request._cookies, response.request, response.raw
        )
        request.prepare_cookies(request._cookies)
        again = self._attach(request, decision, sent)
        self._count("retries")
        second: Response = connection.send(request, **options)
        second.history.append(response)
        if again is not None:
            self._was_refused(again, request, second.status_code)
        return second

    def _keep_home(self, sent: Sent, response: Response, request: PreparedRequest) -> None:
        """Take the token off a redirect from http to https, where requests would leave it on.

        `request` is what requests makes the next one of; the record of what was sent stays true.
        """
        origin = self._origin(request.url)
        target = self._origin(response.headers["location"], response.url)
        if target == origin or target.host != origin.host:  # requests sees to these itself
            return
        if request.headers.get(HEADER_NAME) == sent.decision.authorization:
            for answer in (response, *response.history):
                if answer.request is request:
                    answer.request = request.copy()
            del request.headers[HEADER_NAME]

    def _origin(self, url: Any, base: str = "") -> Origin:
        try:
            parts = urlsplit(urljoin(base, url))  # as requests' own transport reads it
            return Origin.of(parts.scheme, parts.hostname or "", parts.port)
        except ValueError:  # another transport's URL
            return Origin("", "", None)

    def _body_start(self, request: PreparedRequest) -> int | None:
        return None if _is_in_memory(request.body) else position(request.body)


class _AnswerHook:
    """Waits for the answer to one request, and to what requests makes of it on a redirect.

    A pickled response holds its request, and that its hooks: this one leaves the token behind.
    """

    __slots__ = ("_auth", "_sent")

    def __init__(self, auth: RequestsAuth, sent: Sent | None) -> None:
        self._auth = auth
        self._sent = sent

    def __call__(self, response: Response, **options: Any) -> Response:
        sent = self._sent
        return response if sent is None else self._auth._answered(sent, response, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._auth, None)


def _is_in_memory(body: Any) -> bool:
    return body is None or isinstance(body, (bytes, bytearray, str))


def _rewind_body(request: PreparedRequest, sent: Sent) -> bool:
    return _is_in_memory(request.body) or rewind(request.body, sent.body_start)


def _release(response: Response) -> None:
    """Read what is left of `response`, so that its connection can be used again."""
    try:
        _ = response.content
    except RequestException:
        pass  # a broken connection is closed, not used again
    finally:
        response.close()
