"""``manor-mcp serve-auth``: what it serves, how it ends, what it says if it cannot start."""

from __future__ import annotations

import os
import signal
import socket
from http.client import HTTPConnection
from pathlib import Path

import pytest

from manor_mcp_interceptors._cli.listener import listen
from tests.cli.running import run, run_without, words
from tests.server.asking import ask
from tests.server.callers import SUBJECT, token
from tests.support import SECRET
from tests.support.auth_process import serve_auth
from tests.support.eventually import eventually


def good() -> list[str]:
    return [f"Bearer {token()}"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(number: signal.Signals) -> None:
    """With exit code 0; the log has the refusals, and no line for a call that passed."""
    with serve_auth("--required-scope", "a", "--required-scope", "b") as auth:
        answer = ask(auth.url, [f"Bearer {token(scope='b c a')}"])
        assert (answer.status, answer.caller) == (200, SUBJECT)
        assert answer.headers.keys() == {"x-mcp-caller", "x-mcp-scope", "content-length"}
        assert ask(auth.url, [f"Bearer {token(scope='a')}"]).status == 403
        code, errors = auth.stop(number)
    assert code == 0
    assert [line.partition(" MCP ")[2] for line in errors.splitlines()] == [
        "auth refused a call: scope (1 since the last such line)"
    ]


@pytest.mark.slow
def test_the_handshake_of_a_websocket_is_a_request_like_others() -> None:
    """A proxy may forward its headers; whoever calls the proxy floods no log with them."""
    handshake = [
        *(("Connection", "Upgrade"), ("Upgrade", "websocket")),
        *(("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")),
    ]
    with serve_auth() as auth:
        assert ask(auth.url, good(), headers=handshake).caller == SUBJECT
        assert ask(auth.url, headers=handshake).status == 401
        _, errors = auth.stop()
    (line,) = errors.splitlines()
    assert "MCP auth refused a call: missing" in line


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/auth"])
def test_health_is_no_way_in(path: str) -> None:
    """By its port alone: no request to the other port leads there, whatever it claims."""
    with serve_auth() as auth:
        health = auth.health.removeprefix("http://")
        assert ask(auth.health, path=path).status == (404 if path == "/auth" else 200)
        assert ask(auth.health, good(), path=path).caller is None
        assert ask(auth.url, path=path).status == 401
        assert ask(auth.url, path=f"{auth.health}{path}").status == 401
        headers = [("X-Forwarded-Host", health), ("X-Forwarded-Port", health.rpartition(":")[2])]
        assert ask(auth.url, path=path, headers=headers).status == 401


@pytest.mark.slow
def test_without_a_key_it_serves_and_is_not_ready(tmp_path: Path) -> None:
    """A line says so; when the key is there, it is ready without a start."""
    file = tmp_path / "key"
    environment = {"MCP_AUTH_SECRET_FILE": str(file), "MCP_AUTH_RECHECK_SECONDS": "0"}
    with serve_auth(environment=environment) as auth:
        assert ask(auth.health, path="/healthz").status == 200
        assert ask(auth.health, path="/readyz").status == 503
        assert ask(auth.url, good()).status == 401
        file.write_text(SECRET)
        assert ask(auth.health, path="/readyz").status == 200
        assert ask(auth.url, good()).caller == SUBJECT
        _, errors = auth.stop()
    assert "WARNING MCP auth verification: no token is accepted: MCP_AUTH_SECRET_FILE" in errors


@pytest.mark.slow
def test_requests_that_were_sent_before_sigterm_are_answered() -> None:
    """The process is stopped while they arrive, so that none is answered before the signal."""
    with serve_auth() as auth:
        connections = [HTTPConnection("127.0.0.1", auth.port, timeout=10) for _ in range(50)]
        headers = {"Authorization": good()[0]}
        for connection in connections:
            connection.request("GET", "/auth", headers=headers)
            connection.getresponse().read()
        os.kill(auth.process.pid, signal.SIGSTOP)
        for connection in connections:
            connection.request("GET", "/auth", headers=headers)
        os.kill(auth.process.pid, signal.SIGTERM)
        os.kill(auth.process.pid, signal.SIGCONT)
        answers = [connection.getresponse() for connection in connections]
        assert [answer.status for answer in answers] == [200] * 50
        for connection in connections:
            connection.close()
        assert auth.process.wait(20) == 0


@pytest.mark.slow
def test_workers_share_the_ports() -> None:
    """One that ends is replaced; SIGTERM ends them all."""
    with serve_auth("--workers", "2") as auth:
        assert "with 2 workers" in auth.line
        assert ask(auth.url, good()).caller == SUBJECT
        before = auth.workers()
        os.kill(before[0], signal.SIGKILL)
        assert ask(auth.url, good()).caller == SUBJECT
        assert eventually(lambda: len({*auth.workers()} - {before[0]}) == 2)
        assert ask(auth.health, path="/readyz").status == 200
        code, errors = auth.stop()
        assert code == 0
        assert "a worker of serve-auth ended (exit code -9); another one is started" in errors
        listen(auth.port).close()


@pytest.mark.slow
def test_workers_end_with_a_parent_that_was_killed() -> None:
    """They would keep the port, and the next server could not start there."""
    with serve_auth("--workers", "2") as auth:
        assert ask(auth.url, good()).caller == SUBJECT
        auth.process.kill()

        def is_free() -> bool:
            try:
                listen(auth.port).close()
            except OSError:
                return False
            return True

        assert eventually(is_free)


def test_a_port_that_is_taken() -> None:
    """One line names it; the other one is given back."""
    with listen(0) as taken:
        port = str(taken.getsockname()[1])
        for arguments in (["--port", port], ["--port", "0", "--health-port", port]):
            result = run("serve-auth", *arguments)
            assert (result.exit_code, result.stdout) == (1, "")
            line = f"port {port} of 127.0.0.1 cannot be used: Address already in use\n"
            assert result.stderr == line


def test_an_address_that_is_none() -> None:
    """The same line."""
    result = run("serve-auth", "--host", "nowhere.invalid")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("port 9191 of nowhere.invalid cannot be used: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "9000", "--health-port", "9000"], "--health-port: it is the port that proxies"),
        (["--required-scope", 'a"b'], "--required-scope: required_scopes: 'a\"b' is no scope"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_wrong_usage(arguments: list[str], text: str) -> None:
    """Exit code 2; nothing is served."""
    result = run("serve-auth", *arguments)
    assert result.exit_code == 2
    assert text in words(result.stderr)


@pytest.mark.slow
@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_ipv6_address() -> None:
    """In brackets, as in every URL."""
    with serve_auth("--host", "::1") as auth:
        assert auth.url.startswith("http://[::1]:")
        assert ask(auth.url, good()).caller == SUBJECT


def test_without_uvicorn() -> None:
    """The line that installs it, and exit code 2."""
    done = run_without("uvicorn", "serve-auth")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "manor-mcp serve-auth needs uvicorn: pip install 'manor-mcp-interceptors[edge]'\n"
    )
