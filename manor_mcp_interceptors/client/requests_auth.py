"""`RequestsAuth`: a token on every request of requests."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urljoin, urlparse, urlsplit

from manor_mcp_interceptors._bearer import HEADER_NAME
from manor_mcp_interceptors._optional import needs

from ._bearer_flow import BearerFlow, Origin, Sent, position, rewind

with needs("requests", "RequestsAuth"):
    from requests import PreparedRequest, RequestException, Response
    from requests.auth import AuthBase
    from requests.cookies import extract_cookies_to_jar
    from requests.sessions import SessionRedirectMixin
    from requests.utils import requote_uri

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
        """Have no redirect take our token along but one that stays within the origin.

        By requests' own rule it would stay on from http to https. The next request is made by
        ``request.copy()``; the header of `request` itself stays: it may be sent again, and is on
        record.
        """
        ours = request.headers.get(HEADER_NAME) == sent.decision.authorization
        home = self._origin(_target(response)) == self._origin(request.url)
        if ours and not home:
            vars(request)["copy"] = _CopyWithoutToken(request)
        else:
            vars(request).pop("copy", None)

    def _origin(self, url: Any) -> Origin:
        try:
            parts = urlsplit(url)  # as requests' own transport reads it
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


class _CopyWithoutToken:
    """Stands in for the method `copy` of a request whose token must stay at home."""

    def __init__(self, request: PreparedRequest) -> None:
        self._request = request

    def __call__(self) -> PreparedRequest:
        made = type(self._request).copy(self._request)
        made.headers.pop(HEADER_NAME, None)
        return made


def _target(response: Response) -> str:
    """Return where a redirect leads, by the very steps of requests.

    Another reading of a crafted ``Location`` takes for home what requests goes to https for.
    """
    try:
        url = SessionRedirectMixin().get_redirect_target(response) or ""
        if url.startswith("//"):
            url = f"{urlparse(response.url).scheme}:{url}"
        return urljoin(response.url, requote_uri(urlparse(url).geturl()))
    except ValueError:  # no URL at all: requests raises as well
        return ""


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
