"""The fixtures, seen from a user's test suite in a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import manor_mcp_interceptors
from manor_mcp_interceptors import pytest_plugin

PLUGIN = "manor_mcp_interceptors.pytest_plugin"
ROOT = Path(manor_mcp_interceptors.__file__).parents[1]
CLIENT = """
import urllib.error
import urllib.request

from manor_mcp_interceptors import get_auth_headers


def search(url):
    request = urllib.request.Request(url + "/search", headers=get_auth_headers())
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return an empty suite beside a client to test."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others' plugins take time
    pytester.makeconftest(f"pytest_plugins = [{PLUGIN!r}]")
    pytester.makepyfile(client=CLIENT)
    pytester.syspathinsert()
    return pytester


def run(suite: pytest.Pytester, code: str, *args: str) -> pytest.RunResult:
    suite.makepyfile(test_client=code)
    return suite.runpytest_inprocess("-p", "no:cacheprovider", *args)


def test_a_users_test_of_a_client_takes_under_ten_lines(suite: pytest.Pytester) -> None:
    """The example of docs/testing.md."""
    code = """
from client import search


def test_search_sends_the_token(mcp_auth_on, mcp_auth_server):
    search(mcp_auth_server.url)
    assert mcp_auth_server.last.authorized
    assert mcp_auth_server.last.subject == "service-application"
"""
    assert len(code.strip().splitlines()) < 10
    run(suite, code).assert_outcomes(passed=1)


def test_off_means_bare(suite: pytest.Pytester) -> None:
    """The call is made, and carries nothing."""
    code = """
from client import search


def test_off(mcp_auth_off, mcp_auth_server):
    assert search(mcp_auth_server.url) == 401
    assert mcp_auth_server.last.reason == "missing"


def test_flipped(mcp_auth_on, mcp_auth_gate, mcp_auth_server):
    assert search(mcp_auth_server.url) == 200
    mcp_auth_gate.on = False
    assert search(mcp_auth_server.url) == 401
    mcp_auth_gate.on = True
    assert search(mcp_auth_server.url) == 200
"""
    run(suite, code).assert_outcomes(passed=2)


def test_another_algorithm(suite: pytest.Pytester) -> None:
    """For one test, or for all; provider, verifier and server follow."""
    code = """
import jwt
import pytest

from client import search
from manor_mcp_interceptors import TokenVerifier, get_token


@pytest.mark.parametrize("mcp_auth_algorithm", ["HS256", "ES256", "RS256", "EdDSA"])
def test_each(mcp_auth_algorithm, mcp_auth_on, mcp_auth_server):
    assert search(mcp_auth_server.url) == 200
    assert TokenVerifier.from_env().verify(get_token())
    assert jwt.get_unverified_header(get_token())["alg"] == mcp_auth_algorithm


@pytest.mark.parametrize("mcp_auth_algorithm", ["ES256"])
def test_off(mcp_auth_off, mcp_auth_server):
    assert search(mcp_auth_server.url) == 401
    assert mcp_auth_server.last.reason == "missing"
"""
    run(suite, code).assert_outcomes(passed=5)


def test_the_clock_moves_provider_and_server(suite: pytest.Pytester) -> None:
    """Whatever the order in which the fixtures are asked for."""
    code = """
from client import search
from manor_mcp_interceptors import get_token


def test_renewal(mcp_auth_on, mcp_auth_server, mcp_auth_clock):
    first = get_token()
    assert search(mcp_auth_server.url) == 200
    mcp_auth_clock.advance(3600)
    assert search(mcp_auth_server.url) == 200
    assert get_token() != first
    assert mcp_auth_server.last.claims["iat"] == int(mcp_auth_clock.time()) - 5


def test_expiry(mcp_auth_clock, mcp_auth_server, mcp_auth_on, monkeypatch):
    token = get_token()
    monkeypatch.setattr("client.get_auth_headers", lambda: {"Authorization": "Bearer " + token})
    assert search(mcp_auth_server.url) == 200
    mcp_auth_clock.advance(3600)
    assert search(mcp_auth_server.url) == 401
"""
    run(suite, code).assert_outcomes(passed=2)


def test_the_users_own_server_is_tested_in_isolation_and_by_the_clock(
    suite: pytest.Pytester,
) -> None:
    """Its verifier, made at the first request, is no other test's; tests pass in any order."""
    code = """
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from manor_mcp_interceptors import get_auth_headers
from manor_mcp_interceptors.server.fastapi_dependency import verify_mcp_token

app = TestClient(FastAPI(dependencies=[Depends(verify_mcp_token)]))


def status():
    return app.get("/docs-or-not", headers=get_auth_headers()).status_code


@app.app.get("/docs-or-not")
def page():
    return {}


def test_unconfigured(mcp_auth_isolated):
    assert status() == 401


def test_on(mcp_auth_on):
    assert status() == 200


def test_the_clock(mcp_auth_on, mcp_auth_clock):
    assert status() == 200
    mcp_auth_clock.advance(120)
    assert status() == 200
    headers = get_auth_headers()
    mcp_auth_clock.advance(3600)
    assert app.get("/docs-or-not", headers=headers).status_code == 401
    assert status() == 200


def test_by_the_time_of_day_again(mcp_auth_on):
    assert status() == 200


def test_without_fixtures():
    assert status() == 401
"""
    run(suite, code).assert_outcomes(passed=5)


def test_each_test_starts_from_nothing(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable, token or configuration of another test or of the shell; all put back."""
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "of the shell")
    code = """
import os

import pytest
from manor_mcp_interceptors import MCPTokenProvider, Settings, diagnose, get_token

mine = Settings(secret="x" * 32, subject="configured by the application")
MCPTokenProvider.configure(settings=mine)


@pytest.mark.parametrize("round", [1, 2])
def test_isolated(mcp_auth_isolated, round, monkeypatch):
    assert "MCP_AUTH_AUDIENCE" not in os.environ
    assert diagnose().subject == "service-application"
    monkeypatch.setenv("MCP_AUTH_SUBJECT", "s")
    os.environ["MCP_AUTH_ISSUER"] = "left behind"
    MCPTokenProvider.configure(settings=Settings(secret="y" * 32))


def test_as_before():
    assert os.environ.get("MCP_AUTH_AUDIENCE") == "of the shell"
    assert not {"MCP_AUTH_SUBJECT", "MCP_AUTH_ISSUER"} & set(os.environ)
    assert diagnose().subject == "configured by the application"


def test_variables_are_the_users_to_set(mcp_auth_on, mcp_auth_server, monkeypatch):
    first = get_token()
    monkeypatch.setenv("MCP_AUTH_SUBJECT", "s")
    assert get_token() != first
"""
    run(suite, code).assert_outcomes(passed=4)


def test_the_secret_is_one_per_session_and_not_shown(suite: pytest.Pytester) -> None:
    """Not even where a test fails that holds it, whatever pytest is told to show."""
    code = """
from pathlib import Path


def test_fails(mcp_auth_on, mcp_auth_secret):
    Path("secret").write_text(mcp_auth_secret)
    assert mcp_auth_secret is None


def test_same(mcp_auth_on, mcp_auth_secret):
    assert Path("secret").read_text() == mcp_auth_secret
"""
    result = run(suite, code, "-vv", "--showlocals")
    result.assert_outcomes(passed=1, failed=1)
    assert (suite.path / "secret").read_text() not in result.stdout.str()


def test_the_fixtures_are_listed_with_what_they_do(suite: pytest.Pytester) -> None:
    """``pytest --fixtures`` is where people look."""
    listed = run(suite, "", "--fixtures").stdout.str()
    ours = listed.partition(f"fixtures defined from {PLUGIN}")[2].partition("fixtures defined")[0]
    for name in pytest_plugin.__all__:
        assert f"\n{name}" in ours
    assert "no docstring available" not in ours


def test_the_plugin_is_inert() -> None:
    """Imported, it has imported pytest and the standard library; PyJWT and transports not."""
    code = f"""
import sys, pytest
before = set(sys.modules)
import {PLUGIN}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(new - set(sys.stdlib_module_names)))
print("manor_mcp_interceptors.testing" in sys.modules, "http.server" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["manor_mcp_interceptors", "False False"]


def test_a_session_that_uses_no_fixture_sees_no_change(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No autouse: neither the environment nor the provider is touched."""
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "of the shell")
    code = """
import os


def test_untouched(request):
    assert os.environ["MCP_AUTH_AUDIENCE"] == "of the shell"
    assert not [name for name in request.fixturenames if name.startswith("mcp_auth")]
"""
    run(suite, code).assert_outcomes(passed=1)
