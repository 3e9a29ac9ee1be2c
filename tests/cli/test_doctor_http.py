"""``doctor --url`` names the true cause, against real servers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import jwt
import pytest

from manor_mcp_interceptors import Settings
from manor_mcp_interceptors._cli.demo.guestbook import Guestbook
from manor_mcp_interceptors._cli.demo.http_service import http_service
from manor_mcp_interceptors._cli.doctor.answers import redact
from tests.cli.running import doctor, run
from tests.support import FLAG, OTHER_SECRET, SECRET
from tests.support.auth_servers import GOOD, http_server
from tests.support.http_server import Certificate, HttpServer, refuse
from tests.support.uvicorn_server import serve

WITH = "call with the token"
WITHOUT = "call without a token"

pytestmark = pytest.mark.usefixtures("env_on")


def test_all_is_well() -> None:
    """Refused without, served with; the clocks agree."""
    with http_server(GOOD) as url:
        found = doctor("--url", url)
    assert (found.exit_code, found.cause) == (0, None)
    assert found.conclusion == "The server accepted the token."
    assert "401" in found.checks[WITHOUT]["finding"]
    assert found.checks[WITHOUT]["details"]["challenge"] == "Bearer"
    assert "the server accepts the token" in found.checks[WITH]["finding"]
    assert found.checks["clock"]["state"] == "ok"


def test_another_secret() -> None:
    """The fingerprint is there to compare."""
    with http_server(replace(GOOD, secret=OTHER_SECRET)) as url:
        found = doctor("--url", url)
    assert (found.exit_code, found.cause) == (1, WITH)
    assert "the server holds another secret than this host" in found.finding
    assert "or has no key, or bad settings" in found.finding  # it answers the same to those
    assert found.checks["secret"]["details"]["fingerprint"] in found.finding
    assert "manor-mcp verify" in found.fix


@pytest.mark.parametrize("expected", ["service-search-mcp", "{url}", "{origin}"])
def test_another_audience(monkeypatch: pytest.MonkeyPatch, expected: str) -> None:
    """The expected one is named if it can be guessed: the default one, the URL, its origin."""
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "wrong-mcp")
    port = _free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    audience = expected.format(url=url, origin=f"http://127.0.0.1:{port}")
    with http_server(replace(GOOD, audience=audience), port=port):
        found = doctor("--url", url)
    assert found.cause == WITH
    assert f"expects the audience {audience!r}, not 'wrong-mcp'" in found.finding


def test_the_configured_audience_instead_of_the_chosen_one() -> None:
    """``--audience`` is wrong, and what is configured would be right."""
    with http_server(GOOD) as url:
        found = doctor("--url", url, "--audience", "wrong-mcp")
    assert "expects the audience 'service-search-mcp', not 'wrong-mcp'" in found.finding


def test_another_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the audience."""
    monkeypatch.setenv("MCP_AUTH_ISSUER", "somebody")
    with http_server(GOOD) as url:
        found = doctor("--url", url)
    assert "expects the issuer 'manor-internal', not 'somebody'" in found.finding


@pytest.mark.parametrize("ahead", [-120.0, 4000.0])
def test_the_clock_is_off(ahead: float) -> None:
    """By how much, and whose is ahead."""
    with http_server(GOOD, ahead=ahead) as url:
        found = doctor("--url", url)
    assert found.cause == WITH
    word = "ahead of" if ahead > 0 else "behind"
    seconds = round(abs(ahead))
    near = [f"clock is {s} s {word} this host's" for s in (seconds - 1, seconds, seconds + 1)]
    assert any(text in found.finding for text in near), found.finding
    assert "NTP" in found.fix


@pytest.mark.parametrize(
    ("ahead", "word"),
    [(-120.0, "the server's clock is behind"), (4000.0, "or a clock ahead of this host's")],
)
def test_the_clock_is_off_and_there_is_no_date(ahead: float, word: str) -> None:
    """An earlier-dated token is what the server takes; one for a time to come is never sent."""
    with http_server(GOOD, ahead=ahead, tells_time=False) as url:
        found = doctor("--url", url)
    assert "clock" not in found.checks
    assert word in found.finding


@pytest.mark.parametrize(("ahead", "found_it"), [(40.0, True), (100.0, True), (300.0, False)])
def test_another_cause_beside_a_clock_that_is_ahead(
    monkeypatch: pytest.MonkeyPatch, ahead: float, *, found_it: bool
) -> None:
    """The tokens that are tried outlive a small difference; a large one must be mended first."""
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "wrong-mcp")
    with http_server(GOOD, ahead=ahead) as url:
        found = doctor("--url", url)
    assert ("expects the audience 'service-search-mcp'" in found.finding) is found_it
    assert ("a token valid for a minute" in found.finding) is not found_it


@pytest.mark.parametrize("ahead", [0.0, -120.0, 100.0, 4000.0, -1e9, 1e9])
@pytest.mark.parametrize("tells_time", [True, False])
def test_a_token_that_is_tried_expires_within_two_minutes(
    monkeypatch: pytest.MonkeyPatch, ahead: float, *, tells_time: bool
) -> None:
    """Whatever time the server claims to have."""
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", "p" * 40)
    monkeypatch.setenv("MCP_AUTH_KEY_ID", "2026-11")
    monkeypatch.setenv("MCP_AUTH_ISSUER", "somebody")
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "wrong-mcp")
    seen: list[str] = []
    refusing = replace(GOOD, secret=OTHER_SECRET)
    with http_server(refusing, ahead=ahead, tells_time=tells_time, seen=seen) as url:
        doctor("--url", url)
    now, own, *tried = time.time(), *seen
    assert len(tried) >= 6 or ahead > 100
    claims = [jwt.decode(token, options={"verify_signature": False}) for token in tried]
    assert all(each["iat"] <= now and each["exp"] <= now + 121 for each in claims)
    assert {each["aud"] for each in claims} >= {"wrong-mcp", "service-search-mcp"} or ahead > 100
    assert own not in tried


def test_a_harmless_clock_difference_is_a_warning() -> None:
    """Two minutes ahead: the tokens are still valid there."""
    with http_server(GOOD, ahead=120) as url:
        found = doctor("--url", url)
    assert (found.exit_code, found.checks["clock"]["state"]) == (0, "warning")


def test_the_previous_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host has rotated already, the server has not."""
    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", SECRET)
    with http_server(GOOD) as url:
        found = doctor("--url", url)
    assert "accepts only the previous secret" in found.finding


def test_another_key_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret is right, its key id is not."""
    monkeypatch.setenv("MCP_AUTH_KEY_ID", "2026-11")
    with http_server(replace(GOOD, key_id="2026-10")) as url:
        found = doctor("--url", url)
    assert "does not know the key id '2026-11'" in found.finding


def test_host_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token is sent there; the answer to a call without one is reported."""
    monkeypatch.setenv("MCP_AUTH_ALLOWED_HOSTS", "*.example.com")
    with http_server(GOOD) as url:
        found = doctor("--url", url)
    assert (found.exit_code, found.cause) == (1, "host")
    assert "127.0.0.1 may not receive a token" in found.finding
    assert WITH not in found.checks
    assert WITHOUT in found.checks


def test_server_down() -> None:
    """Nobody listens."""
    found = doctor("--url", f"http://127.0.0.1:{_free_port()}/mcp")
    assert (found.exit_code, found.cause) == (1, "server")
    assert "Connection refused" in found.finding


def test_server_without_auth() -> None:
    """It serves anybody: a warning, since calls do work."""
    with http_server(None) as url:
        found = doctor("--url", url)
    assert (found.exit_code, found.checks[WITHOUT]["state"]) == (0, "warning")
    assert "does not ask for a token" in found.checks[WITHOUT]["finding"]
    assert found.conclusion == "A call made now carries a token."


def test_refused_before_auth() -> None:
    """The same answer with a token and without: the token was not checked."""
    with http_server(GOOD) as url:
        found = doctor("--url", url.replace("/mcp", "/mpc"))
    assert found.cause == WITH
    assert "404 Not Found with and without a token" in found.finding


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_reported_and_not_followed(status: int) -> None:
    """No token goes to another address than the given one."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        target = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/mcp"
        with http_server(GOOD, moved_to=target, moved_as=status) as url:
            found = doctor("--url", url)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert found.cause == WITH
    assert found.finding.startswith(f"{status} ")
    assert f", to {target} with and without a token" in found.finding


def test_a_proxy_that_wants_a_password() -> None:
    """Its 401 is not about the token."""
    with http_server(replace(GOOD, secret=OTHER_SECRET), asks_for="Basic realm=office") as url:
        found = doctor("--url", url)
    assert found.cause == WITH
    assert "other credentials are required: Basic realm=office" in found.finding


def test_without_a_token_the_server_is_called_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cause is the flag; the answer of the server is reported."""
    monkeypatch.setenv(FLAG.upper(), "off")
    with http_server(GOOD) as url:
        found = doctor("--url", url)
    assert found.cause == "flag"
    assert "401" in found.checks[WITHOUT]["finding"]
    assert found.checks[WITH]["state"] == "note"


def test_an_http_service_that_is_no_mcp_server() -> None:
    """FastAPI, with the check that is in use today: called by GET."""
    with serve(http_service(Settings(secret=SECRET), Guestbook())) as origin:
        found = doctor("--url", f"{origin}/whoami")
        assert (found.exit_code, found.cause) == (0, None)
        assert "MCP handshake" not in found.checks
    with serve(http_service(Settings(secret=OTHER_SECRET), Guestbook())) as origin:
        assert "another secret" in doctor("--url", f"{origin}/whoami").finding


def test_a_password_in_the_url_is_neither_sent_nor_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a key in its query: not when all is well, nor when it is not."""
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "wrong-mcp")
    with HttpServer(refuse) as server:
        address = f"user:hunter2@127.0.0.1:{server.port}/mcp"
        refused = doctor("--url", f"http://{address}?key=hunter3")
        assert {seen.path for seen in server.seen} == {"/mcp?key=hunter3"}
        assert all("Basic" not in str(seen.authorization) for seen in server.seen)
    down = doctor("--url", f"http://{address}?key=hunter3")
    assert (refused.cause, down.cause) == (WITH, "server")
    assert "hunter" not in refused.text + down.text


@pytest.mark.parametrize("head", ["", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"])
def test_a_dripping_answer_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    """One deadline for the whole answer, in the headers and in the body."""
    monkeypatch.setattr("manor_mcp_interceptors._cli.doctor.http_call.TIMEOUT", 0.2)
    with dripping_server(head) as (url, read_to_the_end):
        found = doctor("--url", url)
        assert not read_to_the_end
    if head:
        assert "200 OK" in found.checks[WITHOUT]["finding"]
    else:
        assert (found.cause, "within" in found.finding) == ("server", True)


@pytest.mark.timeout(10)
def test_tokens_are_removed_in_linear_time() -> None:
    """A hostile server gains nothing from text that looks like the beginnings of many tokens."""
    for part in ("eyJ", "eyJ.", "//", "//a@", "a.b-c"):
        redact(part * 400_000)


def test_a_private_ca(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables are named that make it known, and setting them helps."""
    certificate = Certificate.make(tmp_path)
    with HttpServer(refuse, certificate) as server:
        found = doctor("--url", server.url)
        assert (found.cause, "certificate verify failed" in found.finding) == ("server", True)
        assert "SSL_CERT_FILE" in found.fix
        assert "REQUESTS_CA_BUNDLE" in found.fix
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        assert "401" in doctor("--url", server.url).checks[WITHOUT]["finding"]
        other_name = doctor("--url", server.url.replace("127.0.0.1", "localhost"))
    assert other_name.fix.startswith("call the server by a name in its certificate")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host/", "http://", "http://[::1", "http://a:99999"]
)
def test_a_malformed_url_is_wrong_usage(url: str) -> None:
    """Exit code 2."""
    assert run("doctor", "--url", url).exit_code == 2


def test_no_secret_and_no_token_is_shown() -> None:
    """Neither the real token nor one that is tried."""
    with http_server(replace(GOOD, secret=OTHER_SECRET)) as url:
        output = run("doctor", "--url", url).output
    assert SECRET not in output
    assert "eyJ" not in output


@pytest.mark.parametrize("before", ["", "x" * 200, "x" * 260])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_token_that_the_server_sends_back_is_not_shown(before: str, form: list[str]) -> None:
    """Neither in a challenge, wherever that is cut, nor in the target of a redirect."""
    scope = f'Bearer error="insufficient_scope", error_description="{before} {{token}}"'
    elsewhere = f"http://127.0.0.1:9/{before}?token={{token}}"
    each: list[dict[str, Any]] = [{"forbids": scope}, {"moved_to": elsewhere}]
    for ways in each:
        with http_server(GOOD, **ways) as url:
            output = run("doctor", "--url", url, *form).output
        assert "eyJ" not in output
        assert before + " <token>" in output or "?token=<token>" in output or len(before) > 250


@contextmanager
def dripping_server(head: str) -> Iterator[tuple[str, list[bool]]]:
    """Answer each request with `head`, then with a byte now and then, for four seconds."""
    ended = Event()
    read_to_the_end: list[bool] = []

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(head.encode())
            for _ in range(200):
                if ended.wait(0.02):
                    return
                connection.sendall(b"H")
            read_to_the_end.append(True)

    def accept() -> None:
        with suppress(OSError):
            while True:
                Thread(target=drip, args=(listener.accept()[0],)).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = Thread(target=accept)
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", read_to_the_end
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
