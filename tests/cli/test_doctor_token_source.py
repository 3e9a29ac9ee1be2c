"""The doctor on a host whose tokens something else makes."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings
from tests.cli.running import doctor
from tests.support import FLAG, SECRET
from tests.support.auth_servers import http_server
from tests.support.issuers import CLUSTER, cluster


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a good token's file, which the environment names."""
    path = tmp_path / "token"
    path.write_text(cluster().token())
    monkeypatch.setenv("MCP_AUTH_TOKEN_FILE", str(path))
    monkeypatch.setenv(FLAG.upper(), "on")
    return path


def test_all_is_well(file: Path) -> None:
    """Source, kind, `aud` and the claims, without the token."""
    found = doctor()
    assert (found.exit_code, found.cause) == (0, None)
    check = found.checks["token source"]
    assert check["finding"].startswith("a JWT that expires in ")
    assert check["details"]["source"] == f"MCP_AUTH_TOKEN_FILE ({file})"
    assert check["details"]["aud"] == "service-search-mcp"
    assert found.checks["token"]["finding"].startswith("as it was given, valid for ")
    assert found.checks["token"]["details"]["iss"] == CLUSTER
    assert file.read_text() not in found.text
    assert file.read_text().rpartition(".")[2] not in found.text


def test_an_opaque_token(file: Path) -> None:
    """Nothing can be read from it, and nothing of it is shown."""
    file.write_text("opaque-token-of-a-test")
    found = doctor()
    assert found.exit_code == 0
    assert found.checks["token source"]["finding"].startswith("an opaque token, asked for at each")
    assert found.checks["token"]["finding"] == "as it was given, of unknown lifetime"
    assert "opaque-token-of-a-test" not in found.text


def expired() -> str:
    return cluster().token(exp=int(time.time()) - 60)


@pytest.mark.parametrize(
    ("content", "finding", "fix"),
    [
        (expired(), "a JWT that expired ", "find out why its source has not made a new one"),
        (cluster().token(audience="other"), "its aud is 'other'", "set MCP_AUTH_AUDIENCE to"),
        ("eyJ", "holds a part of a JWT only", "have the source write one whole token"),
        ("", "is empty", "have the source write one whole token"),
    ],
    ids=["expired", "audience", "part", "empty"],
)
def test_a_file_whose_token_cannot_be_sent(
    file: Path, content: str, finding: str, fix: str
) -> None:
    """It is the cause, and the fix is for whoever runs the platform."""
    file.write_text(content)
    found = doctor()
    assert (found.exit_code, found.cause) == (1, "token source")
    assert finding in found.finding
    assert found.fix.startswith(fix)


def test_a_file_and_a_secret(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them goes."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    found = doctor()
    assert found.finding.startswith("MCP_AUTH_SECRET and MCP_AUTH_TOKEN_FILE are both set")
    assert found.fix.startswith("unset one of them")


def configured(monkeypatch: pytest.MonkeyPatch, source: object) -> str:
    """Return the ``--setup`` of an application with this token source."""
    module = types.ModuleType("an_application")
    module.set_up = lambda: MCPTokenProvider.configure(token_source=source)  # type: ignore[attr-defined, arg-type]
    monkeypatch.setitem(sys.modules, "an_application", module)
    return "an_application:set_up"


def give(audience: str) -> str:
    return cluster().token(audience=audience)


def fail(audience: str) -> str:
    raise ConnectionError(audience)


@pytest.mark.parametrize(
    ("flag", "source", "state", "finding"),
    [
        ("on", give, "ok", "a JWT that expires in "),
        ("on", fail, "failed", "token_source (fail) raised ConnectionError"),
        ("off", fail, "note", "token_source (fail) was not asked"),
    ],
)
def test_a_token_source_in_code(
    monkeypatch: pytest.MonkeyPatch, flag: str, source: object, state: str, finding: str
) -> None:
    """By its name; the doctor asks it once, with the flag on."""
    monkeypatch.setenv(FLAG.upper(), flag)
    check = doctor("--setup", configured(monkeypatch, source)).checks["token source"]
    assert check["state"] == state
    assert check["finding"].startswith(finding)


def test_a_refused_token_is_the_only_one_that_is_sent(file: Path) -> None:
    """This host can sign no other: the answer says where the reason is found."""
    seen: list[str] = []
    with http_server(Settings(secret=SECRET), seen=seen) as url:
        found = doctor("--url", url)
    assert found.cause == "call with the token"
    assert f"the server refuses the token of MCP_AUTH_TOKEN_FILE ({file})" in found.finding
    assert "`manor-mcp verify` on the server's host" in found.fix
    assert seen == [file.read_text()]
