"""The four promises: whatever is wrong, the application goes on, and an operator can see why."""

from __future__ import annotations

import builtins
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    RequestsAuth,
    Settings,
    TokenRejectedError,
    TokenVerifier,
    diagnose,
    get_auth_headers,
    get_token,
    is_enabled,
)
from manor_mcp_interceptors._decision import token_cache
from tests.support import FLAG, OTHER_SECRET, SECRET, FakeClock, StaticGate, legacy_check

Break = Callable[[pytest.MonkeyPatch], None]


def flag_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FLAG.upper(), "off")


def no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCP_AUTH_SECRET")


def bad_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_AUTH_TTL_SECONDS", "1h")


def no_pyjwt(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.endswith("jws"):  # the one module that imports PyJWT
            raise ModuleNotFoundError("No module named 'jwt'", name="jwt")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def signing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(f"could not sign with {SECRET}")

    monkeypatch.setattr(token_cache, "mint", fail)


@pytest.mark.parametrize(
    ("broken", "outcome", "says"),
    [
        (flag_off, Outcome.FLAG_OFF, f"flag {FLAG} is off"),
        (no_secret, Outcome.NOT_CONFIGURED, "MCP_AUTH_SECRET"),
        (bad_lifetime, Outcome.INVALID_CONFIG, "MCP_AUTH_TTL_SECONDS='1h' is not a whole number"),
        (no_pyjwt, Outcome.PYJWT_MISSING, "pip install PyJWT"),
        (signing_fails, Outcome.SIGNING_FAILED, "signing raised (RuntimeError)"),
    ],
)
def test_no_token_no_exception_one_reason(
    env_on: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: Break,
    outcome: Outcome,
    says: str,
) -> None:
    """None and {} at every call, one log line in all, and an outcome that explains it."""
    caplog.set_level(logging.DEBUG)
    broken(monkeypatch)
    for _ in range(10):
        assert get_token() is None
        assert get_auth_headers() == {}
        assert is_enabled() is False
    status = diagnose()
    assert status.outcome is outcome
    assert says in status.reason
    assert [record.getMessage() for record in caplog.records] == [
        f"MCP auth {outcome}: {status.reason}"
    ]
    assert SECRET not in caplog.text


def test_with_everything_in_place_there_is_a_token(env_on: None) -> None:
    """The header is the token's, the same from every door, and the caller's own dict."""
    token = get_token()
    assert token is not None
    assert MCPTokenProvider.get_token() == MCPTokenProvider.get_instance().token() == token
    assert get_auth_headers() == {"Authorization": f"Bearer {token}"}
    assert MCPTokenProvider.get_auth_headers() == get_auth_headers()
    assert get_auth_headers() is not get_auth_headers()
    assert is_enabled() is True


def test_diagnose_tells_all_but_the_secret_and_the_token(env_on: None, tmp_path: Path) -> None:
    """What an operator asks at 3 a.m., in one object that is safe to print."""
    token = get_token()
    status = diagnose()
    assert (status.outcome, status.flag, status.flag_enabled) == (Outcome.OK, FLAG, True)
    assert status.flag_source == f"environment variable {FLAG.upper()}"
    assert (status.issuer, status.audience, status.subject) == (
        "manor-internal",
        "service-search-mcp",
        "service-application",
    )
    assert status.secret_source == "MCP_AUTH_SECRET"
    assert status.seconds_to_expiry is not None
    assert 3500 < status.seconds_to_expiry <= 3600
    assert SECRET not in repr(status)
    assert str(token) not in repr(status)


def test_a_broken_setting_behind_a_flag_that_is_off_is_no_news(
    env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag comes first."""
    bad_lifetime(monkeypatch)
    flag_off(monkeypatch)
    assert get_token() is None
    assert diagnose().outcome is Outcome.FLAG_OFF


def test_a_short_secret_warns_once_even_where_warnings_are_errors(
    env_on: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One log line of ours, and none of PyJWT's warnings per call."""
    monkeypatch.setenv("MCP_AUTH_SECRET", "x" * 20)
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            assert get_token() is not None
    assert len([r for r in caplog.records if "20 bytes" in r.getMessage()]) == 1


@pytest.mark.parametrize("audience", ["", " ", 7, ["a"], b"a"])
def test_an_audience_of_no_use_raises_nothing(
    env_on: None, audience: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """`get_token()` and its kin never raise, whatever they are given; and say so once."""
    for _ in range(10):
        assert get_token(audience) is None
        assert get_auth_headers(audience) == {}
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


def test_each_audience_has_its_own_instance(env_on: None) -> None:
    """One per audience, the same at each call, with its own `aud`."""
    instance = MCPTokenProvider.get_instance("other-mcp")
    assert instance is MCPTokenProvider.get_instance("other-mcp")
    assert instance is not MCPTokenProvider.get_instance()
    token = get_token("other-mcp")
    assert token is not None
    assert legacy_check(token, audience="other-mcp")["aud"] == "other-mcp"


class FailingGate(StaticGate):
    def is_enabled(self, key: str, *, subject: str) -> bool:
        if not self.on:
            raise ConnectionError
        return super().is_enabled(key, subject=subject)


@pytest.fixture(params=["filter", "handler"])
def broken_log(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Let the application's own filter, or its own handler, raise at each line, and list them."""
    lines: list[str] = []

    def fail(record: logging.LogRecord) -> bool:
        lines.append(record.getMessage())
        raise ValueError("a bug in the application")

    logger, handler = logging.getLogger("manor_mcp_interceptors"), logging.Handler()
    if request.param == "filter":
        logger.addFilter(fail)
    else:
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setattr(handler, "emit", fail)
        logger.addHandler(handler)
    yield lines
    logger.removeFilter(fail)
    logger.removeHandler(handler)


def test_a_log_that_raises_breaks_no_call(broken_log: list[str], clock: FakeClock) -> None:
    """Decisions, remarks, flags, refused tokens, hosts: whatever is logged, the call goes on."""
    gate = FailingGate()
    short = Settings(secret="x" * 20, recheck_seconds=0)
    provider = MCPTokenProvider(short, gate=gate, clock=clock)
    token = provider.token()
    assert token is not None
    provider.invalidate(token)
    gate.on = False
    assert provider.token() is not None  # the last known answer
    auth = RequestsAuth(provider=provider, allowed_hosts=["a.example"])
    assert requests.Request("GET", "http://b.example/", auth=auth).prepare().headers == {}
    assert get_token(" ") is None
    assert get_token() is None
    said = "\n".join(broken_log)
    for line in ("a new token", "20 bytes", "ok: flag", "a server refused", "flag backend failed"):
        assert line in said
    for line in ("target_not_allowed", "invalid_config", "flag_off"):
        assert line in said


def test_a_log_that_raises_lets_nobody_in(
    broken_log: list[str], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And keeps nobody out: the verifier says yes, or its own word for no."""
    monkeypatch.setenv("MCP_AUTH_SECRET", "x" * 20)
    verifier = TokenVerifier(clock=clock)
    good, bad = Settings(secret="x" * 20), Settings(secret=OTHER_SECRET)
    tokens = [MCPTokenProvider(s, gate=StaticGate(), clock=clock).token() for s in (good, bad)]
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", SECRET)
    clock.advance(1)
    assert verifier.verify(str(tokens[0]))
    with pytest.raises(TokenRejectedError, match="signature"):
        verifier.verify(str(tokens[1]))
    said = "\n".join(broken_log)
    for line in ("20 bytes", "secrets have changed", "refused a call: signature"):
        assert line in said
