"""One contract over every HTTP adapter, against servers that refuse and redirect on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http_clients import (
    CLIENTS,
    HTTPX,
    Reply,
    TestProvider,
    bearer,
    bodies_of,
    body_options,
    call,
    can_be_sent_again,
    make_auth,
)
from tests.support.http_server import (
    BIG,
    Answer,
    Certificate,
    HttpServer,
    Rule,
    Seen,
    ok,
    redirect,
    refuse,
    refusing,
)

CELLS = [(client, body) for client in CLIENTS for body in bodies_of(client)]
each_cell = pytest.mark.parametrize(("client", "body"), CELLS)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def plain() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


@pytest.fixture(scope="module")
def secure(certificate: Certificate) -> Iterator[HttpServer]:
    with HttpServer(certificate=certificate) as running:
        yield running


@pytest.fixture(scope="module")
def stranger() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


class Case:
    """A client, a body and a stale token: what every cell of the matrix starts from."""

    def __init__(self, client: str, body: str) -> None:
        self.provider = TestProvider()
        self.old = self.provider.stale_token()
        self.client = client
        self.body = body
        self.auth = make_auth(client, provider=self.provider)

    def post(self, url: str, *, payload: bytes = b"p" * 100, ca: Path | None = None) -> Reply:
        options = body_options(self.client, self.body, payload)
        return call(self.client, self.auth, "POST", url, ca=ca, **options)

    @property
    def new(self) -> str | None:
        return self.provider.token()

    @property
    def redirect_status(self) -> int:
        """Return one that keeps the body if the library itself can send it twice."""
        file_in_httpx = self.body == "file" and self.client in HTTPX
        return 307 if can_be_sent_again(self.body) and not file_in_httpx else 303


@pytest.fixture
def case(client: str, body: str) -> Case:
    return Case(client, body)


def check_body(seen: Seen, body: str, payload: bytes) -> None:
    """Assert that the payload arrived, in the form that the body has."""
    if body == "none":
        assert seen.body == b""
    elif body in {"json", "form"} or body.startswith("multipart"):
        assert payload in seen.body
        assert len(seen.body) < len(payload) + 300
    else:
        assert seen.body == payload


@each_cell
@pytest.mark.parametrize("size", [100, BIG])
def test_refused_once(case: Case, plain: HttpServer, size: int) -> None:
    """The call is repeated with a new token and the same bytes, or the caller gets the 401."""
    payload = b"0123456789" * (size // 10)
    plain.start_over(refusing(case.old))
    reply = case.post(plain.url, payload=payload)
    new = case.new
    assert new != case.old  # the cache is refreshed either way
    check_body(plain.seen[0], case.body, payload)
    if can_be_sent_again(case.body):
        assert plain.tokens == [bearer(case.old), bearer(new)]
        assert plain.seen[0].body == plain.seen[1].body
        assert (reply.status, reply.history) == (200, [401])
    else:
        assert plain.tokens == [bearer(case.old)]
        assert (reply.status, reply.history) == (401, [])
    assert reply.body == b"answer"


@each_cell
def test_always_refused(case: Case, plain: HttpServer) -> None:
    """Over time it is one request per call, and one mint per margin."""
    plain.start_over(refuse)
    assert case.post(plain.url).status == 401
    first = len(plain.seen)
    assert first == (2 if can_be_sent_again(case.body) else 1)
    new = case.new
    for _ in range(3):
        assert case.post(plain.url).status == 401
    assert plain.tokens[first:] == [bearer(new)] * 3
    assert case.new == new


@each_cell
def test_redirect_within_the_origin(case: Case, plain: HttpServer) -> None:
    """The token is kept; a refusal there repeats that request and not the first one."""
    new: list[str | None] = []

    def rule(seen: Seen) -> Answer:
        if seen.path == "/start":
            return redirect("/end", case.redirect_status)
        if seen.authorization == bearer(case.old):
            return refuse(seen)
        new.append(case.new)
        return ok(seen)

    plain.start_over(rule)
    reply = case.post(f"{plain.url}/start")
    kept = case.redirect_status == 307
    verb = "POST" if kept else "GET"
    assert plain.paths == ["POST /start", f"{verb} /end", f"{verb} /end"]
    assert plain.tokens == [bearer(case.old), bearer(case.old), bearer(new[0])]
    assert reply.status == 200
    bodies = [seen.body for seen in plain.seen]
    assert bodies == [bodies[0]] * 3 if kept else bodies[1:] == [b"", b""]


@each_cell
def test_redirect_to_another_port(case: Case, plain: HttpServer, stranger: HttpServer) -> None:
    """The other origin gets no token, and its 401 is not handled."""
    stranger.start_over(refuse)
    plain.start_over(lambda _: redirect(f"{stranger.url}/", case.redirect_status))
    reply = case.post(plain.url)
    assert reply.status == 401
    assert plain.tokens == [bearer(case.old)]
    assert stranger.tokens == [None]
    assert case.provider.refused == []
    assert case.new == case.old


@each_cell
def test_redirect_from_https_to_http(
    case: Case, secure: HttpServer, stranger: HttpServer, certificate: Certificate
) -> None:
    """The token does not leave TLS."""
    stranger.start_over(refuse)
    secure.start_over(lambda _: redirect(f"{stranger.url}/", case.redirect_status))
    assert case.post(secure.url, ca=certificate.path).status == 401
    assert secure.tokens == [bearer(case.old)]
    assert stranger.tokens == [None]
    assert case.new == case.old


@each_cell
def test_redirect_away_and_back(case: Case, plain: HttpServer, stranger: HttpServer) -> None:
    """Another origin that redirects back can make no use of the token, nor have it renewed."""

    def rule(seen: Seen) -> Answer:
        away = seen.path == "/start"
        return redirect(stranger.url, case.redirect_status) if away else refuse(seen)

    plain.start_over(rule)
    stranger.start_over(lambda _: redirect(f"{plain.url}/end", case.redirect_status))
    assert case.post(f"{plain.url}/start").status == 401
    assert plain.tokens == [bearer(case.old), None]
    assert stranger.tokens == [None]
    assert case.new == case.old


@each_cell
def test_over_tls_with_the_callers_certificates(
    case: Case, secure: HttpServer, certificate: Certificate
) -> None:
    """The second try trusts what the first one trusted."""
    rule: Rule = refusing(case.old)
    secure.start_over(rule)
    reply = case.post(secure.url, ca=certificate.path)
    assert reply.status == (200 if can_be_sent_again(case.body) else 401)
