"""`RequestsAuth`: a token on every request of requests."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from manor_mcp_interceptors._optional import needs

from ._bearer_flow import BearerFlow, Drain, Origin, Sent, position, rewind

with needs("requests", "RequestsAuth"):
    from requests import PreparedRequest, Response
    from requests.auth import AuthBase
    from requests.cookies import extract_cookies_to_jar

__all__ = ["RequestsAuth"]


class RequestsAuth(BearerFlow, AuthBase):
    """Puts a token on each request of a `Session`, or of a call without one.

    A request that is refused with 401 is sent once more if the token can be renewed and the body
    can be sent again. A redirect to another origin gets no token.
    """

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Put the token on `request`, and wait for its response."""
        hooks = request.hooks["response"]
        old = next((hook for hook in hooks if isinstance(hook, _ResponseHook)), None)
        earlier = None if old is None else old.sent
        sent = self._attach(request, self._bound.provider.decision(), earlier)
        if sent.token is not None:
            if old is not None:
                hooks.remove(old)
            hooks.insert(0, _ResponseHook(self, sent))  # before a hook that raises for the 401
        return request

    def _on_response(self, sent: Sent, response: Response, options: dict[str, Any]) -> Response:
        """Return `response`, or that of a second try with the same `options`.

        On a redirect requests itself drops the header if the origin changes.
        """
        request = response.request
        if not self._was_refused(sent, request, response.status_code):
            return response
        decision = self._bound.provider.decision()
        connection = getattr(response, "connection", None)
        if connection is None or not self._may_retry_with(sent, decision):
            return response
        if not (_is_in_memory(request.body) or rewind(request.body, sent.body_start)):
            return response
        _drain(response)
        again = _copy_with_cookies(response)
        retry = self._attach(again, decision, sent)
        self._count("retries")
        second: Response = connection.send(again, **options)
        second.history.append(response)
        self._was_refused(retry, again, second.status_code)
        return second

    def _origin(self, url: Any) -> Origin:
        try:
            parts = urlsplit(url)  # as the transport of requests reads it
            return Origin.of(parts.scheme, parts.hostname or "", parts.port)
        except ValueError:  # another transport's URL
            return Origin("", "", None)

    def _body_start(self, request: PreparedRequest) -> int | None:
        return None if _is_in_memory(request.body) else position(request.body)


class _ResponseHook:
    """Handles the response to one request and to its redirects.

    A pickled response holds its request with this hook, which then does nothing.
    """

    __slots__ = ("_auth", "sent")

    def __init__(self, auth: RequestsAuth | None, sent: Sent) -> None:
        self._auth = auth
        self.sent = sent

    def __call__(self, response: Response, **options: Any) -> Response:
        auth = self._auth
        return response if auth is None else auth._on_response(self.sent, response, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (None, self.sent)


def _is_in_memory(body: Any) -> bool:
    return body is None or isinstance(body, (bytes, bytearray, str))


def _copy_with_cookies(response: Response) -> PreparedRequest:
    """Return the request of `response` with the cookies that it set, as `HTTPDigestAuth` does."""
    copied: Any = response.request.copy()
    extract_cookies_to_jar(  # type: ignore[no-untyped-call]
        copied._cookies, response.request, response.raw
    )
    copied.prepare_cookies(copied._cookies)
    return copied  # type: ignore[no-any-return]


def _drain(response: Any) -> None:
    """Read a short body, so that its connection can be used again; else close the connection."""
    body, drain = b"", Drain()
    try:
        # A larger read would wait until it is complete.
        for byte in response.iter_content(1):
            body += byte
            if drain.is_over(len(byte)):
                break
    except Exception:  # noqa: S110 - a broken connection is closed
        pass
    response.close()
    if response._content is False:
        response._content, response._content_consumed = body, True
