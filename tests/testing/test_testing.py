"""The kit for other test runners, and the server that records requests."""

from __future__ import annotations

import http.client
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import jwt
import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    Settings,
    TokenVerifier,
    diagnose,
    get_token,
)
from manor_mcp_interceptors.server.verifier import Reason, VerifiedToken, verification_of
from manor_mcp_interceptors.testing import (
    AuthServer,
    FakeClock,
    KeyAlgorithm,
    KeyPair,
    StaticGate,
    auth_off,
    auth_on,
    auth_variables,
    isolated_auth,
    isolated_provider,
    new_secret,
)
from tests.support import FLAG, OTHER_SECRET, SECRET, legacy_check, signed_with
from tests.support.http_call import get


def token_for(secret: str, *, clock: FakeClock | None = None, **fields: str) -> str:
    settings = Settings(secret=secret, **fields)  # type: ignore[arg-type]
    token = MCPTokenProvider(settings, gate=StaticGate(), clock=clock).token()
    assert token is not None
    return token


def test_auth_on_gives_a_token_and_restores_everything_afterwards(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment, configuration and cached tokens alike."""
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "mine")
    provider, before = MCPTokenProvider.get_instance(), get_token()
    environment = dict(os.environ)
    with auth_on() as secret:
        token = get_token()
        assert token is not None
        assert signed_with(token, secret)
        assert legacy_check(token, secret)["aud"] == "service-search-mcp"
        os.environ["MCP_AUTH_ISSUER"] = "set by the test"
    assert dict(os.environ) == environment
    assert MCPTokenProvider.get_instance() is provider
    assert get_token() == before


def test_auth_off_gives_no_token() -> None:
    """Because of the flag, not of the secret."""
    with auth_off():
        assert get_token() is None
        assert diagnose().outcome is Outcome.FLAG_OFF


def test_what_was_configured_comes_back(clock: FakeClock) -> None:
    """What an application configured at its start is there after a test, even a failed one."""
    MCPTokenProvider.configure(settings=Settings(secret=SECRET), gate=StaticGate(), clock=clock)
    before = get_token()

    def fail_apart() -> None:
        with isolated_auth():
            assert diagnose().outcome is Outcome.FLAG_OFF
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_apart()
    assert get_token() == before is not None


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_a_key_pair_instead_of_a_secret(algorithm: KeyAlgorithm, env_on: None) -> None:
    """No secret is set; caller and server have one file each, which are gone afterwards."""
    with auth_on(algorithm=algorithm) as key, AuthServer(key) as server:
        assert "MCP_AUTH_SECRET" not in os.environ
        token = get_token()
        assert token is not None
        assert jwt.get_unverified_header(token)["alg"] == algorithm
        assert jwt.get_unverified_header(token)["kid"] == key.key_id
        assert get(server, token).status == 200
        assert TokenVerifier.from_env().verify(token).subject == server.last.subject
        assert get(server, token_for(SECRET)).status == 401
        assert "PRIVATE" not in repr(key)
    assert not os.path.exists(os.path.dirname(key.private_key_file))
    assert os.environ["MCP_AUTH_SECRET"] == SECRET


def test_a_key_pair_is_bound_to_subjects(tmp_path: Path) -> None:
    """As the servers' file of a deployment binds it; nobody else can read the private key."""
    key = KeyPair.create(tmp_path, subjects=["orders"])
    assert stat.S_IMODE(os.stat(key.private_key_file).st_mode) == 0o600
    with AuthServer(key) as server:
        for subject in ("orders", "billing"):
            settings = Settings(private_key_file=key.private_key_file, subject=subject)
            get(server, MCPTokenProvider(settings, gate=StaticGate()).token())
    assert [(seen.authorized, seen.reason) for seen in server.requests] == [
        (True, None),
        (False, "subject"),
    ]


def test_a_secret_and_a_private_key_contradict_each_other() -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="ES256 takes no secret"):
        auth_on(SECRET, algorithm="ES256")  # type: ignore[call-overload]


def test_an_unknown_algorithm_is_named(tmp_path: Path) -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match="'ES384' is not one of ES256, RS256, EdDSA"):
        KeyPair.create(tmp_path, "ES384")  # type: ignore[arg-type]


def test_a_fake_clock_moves_only_when_told(clock: FakeClock) -> None:
    """Both clocks, or only the wall clock."""
    start = clock.time(), clock.monotonic()
    clock.advance(2)
    clock.step_wall(-5)
    assert (clock.time() - start[0], clock.monotonic() - start[1]) == (-3, 2)


def test_a_secret_is_random_and_not_shown() -> None:
    """Neither alone nor inside of something."""
    secret = new_secret()
    assert new_secret() != secret
    assert len(secret) >= 32
    assert secret.encode().decode() not in repr([secret]) + repr(auth_variables(secret))


def test_the_variables_switch_another_process_too() -> None:
    """They are all variables that a deployment would set."""
    on, off = auth_variables(SECRET), auth_variables(SECRET, on=False)
    assert on == {
        "MCP_AUTH_SECRET": SECRET,
        "MCP_AUTH_RECHECK_SECONDS": "0",
        FLAG.upper(): "on",
    }
    assert off == {**on, FLAG.upper(): "off"}


def test_the_server_knows_who_called() -> None:
    """A good token: 200, and its subject and claims are recorded."""
    token = token_for(SECRET, subject="service-orders")
    with AuthServer(SECRET) as server:
        answer = get(server, token, path="/search?q=manor")
    assert (answer.status, answer.json) == (200, {"ok": True})
    seen = server.last
    assert (seen.method, seen.path, seen.authorized) == ("GET", "/search?q=manor", True)
    assert (seen.subject, seen.claims["aud"]) == ("service-orders", "service-search-mcp")
    assert seen.reason is None
    assert token not in repr(seen) + repr(server.requests)


@pytest.mark.parametrize(
    ("token", "reason"),
    [(None, "missing"), ("garbage", "malformed"), (token_for(OTHER_SECRET), "signature")],
    ids=["none", "garbage", "another secret"],
)
def test_the_server_refuses_everything_else(token: str | None, reason: str) -> None:
    """401, the challenge of RFC 6750, and the reason is recorded."""
    with AuthServer(SECRET) as server:
        answer = get(server, token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    seen = server.last
    assert (seen.authorized, seen.subject, dict(seen.claims)) == (False, None, {})
    assert seen.reason == reason


def test_the_server_accepts_only_its_audience() -> None:
    """The one that it was made with."""
    with AuthServer(SECRET, audience="mine") as server:
        assert get(server, token_for(SECRET)).status == 401
        assert get(server, token_for(SECRET, audience="mine")).status == 200


def test_the_server_uses_the_given_clock(clock: FakeClock) -> None:
    """A token expires when that clock says so."""
    token = token_for(SECRET, clock=clock)
    with AuthServer(SECRET, clock=clock) as server:
        assert get(server, token).status == 200
        clock.advance(3600)
        assert get(server, token).status == 401


def test_the_server_refuses_the_next_requests_on_demand() -> None:
    """Good tokens too, so that the retry of a client can be tested."""
    token = token_for(SECRET)
    with AuthServer(SECRET) as server:
        server.refuse(2)
        assert [get(server, token).status for _ in range(3)] == [401, 401, 200]
    assert [seen.reason for seen in server.requests] == ["refused", "refused", None]


def test_the_server_may_let_anonymous_requests_pass() -> None:
    """As a server does during a rollout; a bad token is still refused."""
    with AuthServer(SECRET) as server:
        server.requires_token = False
        assert [get(server, token).status for token in (None, "garbage")] == [200, 401]
    assert [seen.subject for seen in server.requests] == [None, None]


@pytest.mark.parametrize("body", [b"abc", iter([b"a", b"bc"])], ids=["sized", "chunked"])
def test_the_server_reads_any_body_and_sends_the_given_reply(body: bytes) -> None:
    """So that a test chooses the answer for the code under test."""
    with AuthServer(SECRET) as server:
        server.reply = {"results": [1, 2]}
        answer = get(server, token_for(SECRET), method="POST", path="/search", body=body)
        assert get(server, token_for(SECRET), method="HEAD").status == 200
    assert answer.json == {"results": [1, 2]}
    assert (server.requests[0].method, server.requests[0].body) == ("POST", b"abc")


def test_close_ends_connections_that_are_still_open() -> None:
    """And the threads of the server."""
    before = set(threading.enumerate())
    with AuthServer(SECRET) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b'{"error": "invalid_token"}'
    connection.close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("requires_token", [True, False])
def test_the_server_refuses_two_authorization_headers(*, requires_token: bool) -> None:
    """Whichever is good: the server adapters refuse both."""
    token = token_for(SECRET)
    with AuthServer(SECRET) as server:
        server.requires_token = requires_token
        for values in (["Bearer other", f"Bearer {token}"], [f"Bearer {token}"] * 2):
            connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
            connection.putrequest("GET", "/")
            for value in values:
                connection.putheader("Authorization", value)
            connection.endheaders()
            assert connection.getresponse().status == 401
            connection.close()
            assert server.last.reason == "multiple"


def test_the_process_wide_verifier_is_replaced_and_put_back() -> None:
    """Inside, a new one uses the given clock; afterwards the old one is back as it was."""
    before = verification_of(None)
    clock = FakeClock()
    with auth_on(clock=clock):
        inside = verification_of(None)
        assert inside is verification_of(None) is not before
        token = str(get_token())
        assert isinstance(inside.check_token(token), VerifiedToken)
        clock.advance(3600)
        assert inside.check_token(token) is Reason.EXPIRED
    assert verification_of(None) is before
    with auth_on(), isolated_provider():
        assert isinstance(verification_of(None).check_token(str(get_token())), VerifiedToken)
    assert verification_of(None) is before


def test_the_kit_imports_no_server_adapter() -> None:
    """Nor PyJWT, before it is needed."""
    code = """
import sys
from manor_mcp_interceptors.testing import auth_on
with auth_on():
    pass
print(*[n for n in sys.modules if n == "jwt" or n.startswith("manor_mcp_interceptors.server.")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "manor_mcp_interceptors.server._process_wide\n"


def test_a_server_that_was_not_started_or_called_says_so() -> None:
    """Rather than an error about an attribute or an index."""
    server = AuthServer(SECRET)
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.url
    with pytest.raises(AssertionError, match="no request has reached"):
        _ = server.last
    server.close()
