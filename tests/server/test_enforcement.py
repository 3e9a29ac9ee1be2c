"""Observe, then enforce: who decides, when a change takes effect, what no request can change."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.transaction_context import ContextVarsTransactionContextPropagator

from manor_mcp_interceptors import (
    OpenFeatureGate,
    Settings,
    SettingsError,
    TokenRejectedError,
    TokenVerifier,
    VerifiedToken,
)
from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware
from manor_mcp_interceptors.server.fastapi_dependency import (
    MCPAdmissionDependency,
    admit_mcp_token,
    verify_mcp_token,
)
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_middleware import MCPAuthMiddleware
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import TokenAuthBackend
from manor_mcp_interceptors.server.verifier import verification_of
from tests.server.callers import token
from tests.server.forging import claims, forge
from tests.support import SECRET, FakeClock, StaticGate
from tests.support.eventually import eventually
from tests.support.openfeature_provider import ToldProvider, set_provider_and_wait
from tests.support.reachable import reachable

KEY = "enforce-tokens"
OBSERVES, ENFORCES = "MCP auth observes", "MCP auth enforces"


def verifier(
    gate: Any = None, clock: FakeClock | None = None, *, variable: Any = "enforce"
) -> TokenVerifier:
    settings = Settings(secret=SECRET, enforcement=variable, enforcement_flag=KEY)
    return TokenVerifier(settings, gate=gate, clock=clock)


def enforces(check: TokenVerifier | None) -> bool:
    """Return whether a call without a token is refused, sync and async alike."""
    verification = verification_of(check)
    is_enforced = verification.is_enforced(max_wait=None)
    assert asyncio.run(verification.is_enforced_async()) is is_enforced
    return is_enforced


# Who decides


def test_without_a_variable_a_server_enforces(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with it, by the next recheck, in both directions."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "0")
    assert enforces(None)
    monkeypatch.setenv("MCP_AUTH_ENFORCEMENT", " Observe ")
    assert not enforces(None)
    monkeypatch.setenv("MCP_AUTH_ENFORCEMENT", "observ")
    assert enforces(None)


@pytest.mark.parametrize("variable", ["enforce", "observe"])
@pytest.mark.parametrize(
    ("text", "enforced"), [(None, None), ("maybe", None), ("on", True), ("off", False)]
)
def test_the_variable_stands_until_somebody_has_answered(
    variable: str, text: str | None, enforced: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag's variable that is unset or malformed is no answer: no server opens by a typo."""
    if text is not None:
        monkeypatch.setenv("ENFORCE_TOKENS", text)
    assert enforces(verifier(variable=variable)) is (
        variable == "enforce" if enforced is None else enforced
    )


def test_a_malformed_flag_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with its value; it does not pass for "off"."""
    monkeypatch.setenv("ENFORCE_TOKENS", "nope")
    check = verifier()
    assert enforces(check)
    assert enforces(check)
    (line,) = caplog.messages
    assert "ENFORCE_TOKENS='nope' is not" in line


@pytest.mark.parametrize("broken", ["MCP_AUTH_TTL_SECONDS", "MCP_AUTH_SECRET_FILE"])
def test_a_misconfigured_server_still_observes(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typo beside it refuses no call; each is counted with its reason."""
    monkeypatch.setenv("MCP_AUTH_ENFORCEMENT", "observe")
    monkeypatch.setenv(broken, "/nowhere")
    verification = verification_of(None)
    assert not enforces(None)
    reason = verification.check_token(token())
    assert reason in ("invalid_config", "not_configured")


def test_the_gate_is_asked_as_this_service(clock: FakeClock) -> None:
    """With the flag's key and the service's subject, once for each recheck."""
    gate = StaticGate(on=False)
    settings = Settings(secret=SECRET, subject="search", enforcement_flag=KEY)
    check = TokenVerifier(settings, gate=gate, clock=clock)
    for _ in range(3):
        assert not enforces(check)
    assert gate.asked == [(KEY, "search")]
    clock.advance(1)
    enforces(check)
    assert len(gate.asked) == 2


def test_a_good_token_never_waits_for_the_flag(clock: FakeClock) -> None:
    """The flag is asked only for a call that may be refused."""
    gate = StaticGate()
    check = verifier(gate, clock)
    for _ in range(3):
        clock.advance(1)
        assert isinstance(verification_of(check).admit([f"Bearer {good()}"]), VerifiedToken)
    assert gate.asked == []


def good() -> str:
    return forge(claims())


# When a change takes effect


@pytest.fixture
def told() -> Iterator[ToldProvider]:
    provider = ToldProvider(on=False)
    set_provider_and_wait(provider)
    yield provider
    api.clear_providers()  # `shutdown` of older SDKs leaves the provider


@pytest.mark.parametrize("gate", [None, OpenFeatureGate()], ids=["default", "given"])
def test_an_event_takes_effect_at_once(
    told: ToldProvider, gate: OpenFeatureGate | None, clock: FakeClock
) -> None:
    """On a clock that stands still no recheck is ever due."""
    check = verifier(gate, clock)
    assert not enforces(check)
    for on in (True, False):
        told.turn(on=on)
        assert eventually(lambda on=on: verification_of(check).is_enforced() is on)  # type: ignore[misc]


def test_the_last_known_answer_stands(told: ToldProvider, clock: FakeClock) -> None:
    """If the backend fails or hangs, whatever the variable says."""
    check = verifier(OpenFeatureGate(), clock)
    assert not enforces(check)
    told.error = ConnectionError("no backend")
    clock.advance(1)
    assert not enforces(check)
    told.error, told.release, told.on = None, threading.Event(), True
    clock.advance(1)
    assert not enforces(check)
    told.release.set()
    assert eventually(
        verification_of(check).is_enforced
    )  # the late answer counts, without a recheck


def test_a_change_is_logged_once(caplog: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    """At WARNING, which is seen without any logging configuration, and with who decided."""
    gate = StaticGate()
    check = verifier(gate, clock)
    for gate.on in (True, False, False, True, True):
        clock.advance(1)
        enforces(check)
    assert [line.partition(":")[0] for line in caplog.messages] == [OBSERVES, ENFORCES]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert f"flag '{KEY}' is off: StaticGate" in caplog.messages[0]


STARTS: dict[str, Callable[[TokenVerifier], object]] = {
    "gRPC": GrpcAuthServerInterceptor,
    "gRPC aio": GrpcAioAuthServerInterceptor,
    "Starlette": TokenAuthBackend,
    "ASGI": lambda check: TokenAuthMiddleware(FastAPI(), verifier=check),
    "MCP": lambda check: MCPAuthMiddleware(FastAPI(), verifier=check),
    # FastAPI has no hook before the first request; any will do, also one with a good token.
    "FastAPI": lambda check: TestClient(admitting(check)).get(
        "/", headers={"Authorization": f"Bearer {token()}"}
    ),
}


def admitting(check: TokenVerifier) -> FastAPI:
    app = FastAPI(dependencies=[Depends(MCPAdmissionDependency(check))])
    app.add_api_route("/", lambda: "in")
    return app


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_server_that_observes_says_so_when_it_starts(
    start: Callable[[TokenVerifier], object], caplog: pytest.LogCaptureFixture
) -> None:
    """By variable and by flag; two adapters of one verifier log it once."""
    by_variable = TokenVerifier(Settings(secret=SECRET, enforcement="observe"))
    for check in (by_variable, verifier(StaticGate(on=False))):
        caplog.clear()
        start(check)
        start(check)
        (line,) = caplog.messages
        assert line.startswith(OBSERVES)


@pytest.mark.parametrize("start", [MCPTokenVerifier, FastMCPTokenVerifier])
def test_the_verifiers_of_the_sdks_cannot_observe(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning tells an operator who expects it; without the settings there is none."""
    start(TokenVerifier(Settings(secret=SECRET)))
    assert caplog.messages == []
    start(TokenVerifier(Settings(secret=SECRET, enforcement="observe")))
    (line,) = caplog.messages
    assert "MCPTokenVerifier refuses calls in observe mode too; see MCPAuthMiddleware" in line


# What no request can change


_tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class SeesContext:
    """A gate that would answer by a context variable of the request."""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking
        self.seen: set[str] = set()

    def is_enabled(self, key: str, *, subject: str) -> bool:
        self.seen.add(_tenant.get())
        return _tenant.get() != "let me in"


@pytest.mark.parametrize("blocking", [False, True])
def test_the_context_of_a_request_does_not_reach_the_gate(blocking: bool) -> None:
    """Whatever an application has put into it before the token is verified."""
    gate = SeesContext(blocking=blocking)
    before = _tenant.set("let me in")
    try:
        assert enforces(verifier(gate))
    finally:
        _tenant.reset(before)
    assert gate.seen == {"nobody"}


def test_the_transaction_context_does_not_reach_the_provider(told: ToldProvider) -> None:
    """OpenFeature merges it into every question of the request that set it."""
    api.set_transaction_context_propagator(ContextVarsTransactionContextPropagator())
    api.set_transaction_context(EvaluationContext("user-1", {"plan": "let me in"}))
    try:
        enforces(verifier(OpenFeatureGate()))
    finally:
        api.set_transaction_context(EvaluationContext())
    ((key, targeting_key, attributes),) = set_of(told.asked)
    assert (key, targeting_key) == (KEY, "service-application")
    assert "plan" not in attributes


def set_of(asked: list[Any]) -> list[Any]:
    return [one for number, one in enumerate(asked) if one not in asked[:number]]


def test_a_gate_that_answers_per_call_is_refused() -> None:
    """It could let in the one user who asks for it."""
    gate = StaticGate()
    gate.per_call = True  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match="per_call"):
        verifier(gate)


# Strict ones stay strict, and types tell the truth


def test_observe_mode_changes_no_strict_answer() -> None:
    """`verify`, `verify_mcp_token` and the SDK's verifier accept verified callers only."""
    check = TokenVerifier(Settings(secret=SECRET, enforcement="observe"))
    with pytest.raises(TokenRejectedError, match="malformed"):
        check.verify("x")
    assert asyncio.run(MCPTokenVerifier(check).verify_token("x")) is None
    assert check.stats().rejected == {"malformed": 2}
    assert check.stats().observed == {}


def test_the_two_dependencies_of_one_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """One follows the mode, for the router; the other is strict, for what needs a caller."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv("MCP_AUTH_ENFORCEMENT", "observe")
    app = FastAPI(dependencies=[Depends(admit_mcp_token)])
    app.add_api_route("/", whoever)
    app.add_api_route("/mine", somebody)
    app.add_api_route("/mistyped", mistyped)
    with TestClient(app, raise_server_exceptions=False) as client:
        auth = {"Authorization": f"Bearer {token()}"}
        assert client.get("/").json() == "nobody"
        assert client.get("/", headers=auth).json() == "service-a"
        assert client.get("/mine").status_code == 401
        assert client.get("/mine", headers=auth).json() == "service-a"
        assert client.get("/mistyped").status_code == 500


def whoever(caller: Annotated[VerifiedToken | None, Depends(admit_mcp_token)]) -> str:
    return "nobody" if caller is None else caller.subject


def somebody(caller: Annotated[VerifiedToken, Depends(verify_mcp_token)]) -> str:
    return caller.subject


def mistyped(caller: Annotated[VerifiedToken, Depends(admit_mcp_token)]) -> str:
    """Use the value as a caller's, which a type checker cannot see in `Depends`."""
    return caller.subject


# The log of observe mode


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


async def send_nothing(_: Any) -> None:
    """Take nothing."""


def bare_call(address: str, agent: bytes = b"test/1.0", *values: str) -> dict[str, Any]:
    authorizations = [(b"authorization", value.encode("latin-1")) for value in values]
    return {
        "type": "http",
        "method": "POST",
        "path": "/",
        "client": (address, 12345),
        "headers": [(b"user-agent", agent), *authorizations],
    }


def observing(clock: FakeClock) -> TokenAuthMiddleware:
    settings = Settings(secret=SECRET, enforcement="observe")
    return TokenAuthMiddleware(application, verifier=TokenVerifier(settings, clock=clock))


def serve_all(adapter: TokenAuthMiddleware, scopes: Iterator[dict[str, Any]]) -> None:
    async def run() -> None:
        for scope in scopes:
            await adapter(scope, lambda: pytest.fail("nothing is read"), send_nothing)

    asyncio.run(run())


def would_be_refused(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if "would be refused" in line]


@pytest.mark.slow
def test_a_flood_of_bare_calls_cannot_flood_the_log(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """100,000 calls from 10,000 peers in three minutes: 20 lines in each, and bounded memory."""
    adapter = observing(clock)

    def flood() -> Iterator[dict[str, Any]]:
        for number in range(100_000):
            clock.advance(180 / 100_000)
            peer = number % 10_000
            yield bare_call(f"10.0.{peer // 256}.{peer % 256}", b"agent %d" % peer)

    serve_all(adapter, flood())
    assert 20 <= len(would_be_refused(caplog)) <= 80
    assert sum(map(sys.getsizeof, reachable(adapter))) < 200_000


def test_each_caller_is_named_and_named_again_later(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Thirty callers that call all the time: all are named within two minutes, once."""
    adapter = observing(clock)

    def minute() -> None:
        serve_all(adapter, (bare_call(f"10.0.0.{n % 30}") for n in range(300)))
        clock.advance(60)

    minute()
    assert len(would_be_refused(caplog)) == 20
    minute()
    assert len(would_be_refused(caplog)) == 30
    assert len({line.partition("from")[2] for line in would_be_refused(caplog)}) == 30
    minute()
    assert len(would_be_refused(caplog)) == 30
    clock.advance(600)
    minute()
    assert len(would_be_refused(caplog)) == 50


@pytest.mark.parametrize(
    "agent",
    [
        b"a\nWARNING root: all is well",
        b"a\r\n\r\nb",
        b"\x1b[2J\x1b]0;title\x07",
        b"\xe2\x80\xae\xff\x85",
        b"%s %d %(x)s",
        b"x" * 100_000,
    ],
)
def test_nothing_of_the_caller_is_injected_into_the_log(
    agent: bytes, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Address, user agent and subject are quoted, escaped and cut."""
    odd = agent.decode("latin-1")[:2000]
    expired = forge(claims(sub=odd, exp=clock.time() - 1))
    serve_all(observing(clock), iter([bare_call(odd, agent, f"Bearer {expired}")]))
    (line,) = would_be_refused(caplog)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1200
    assert "subject" in line


def test_only_a_good_signature_names_a_subject(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is accused of what another one sent."""
    forged = forge(claims(sub="victim"), secret="x" * 40)
    serve_all(observing(clock), iter([bare_call("10.0.0.1", b"a", f"Bearer {forged}")]))
    (line,) = would_be_refused(caplog)
    assert "signature, from '10.0.0.1', user agent 'a'" in line
    assert "victim" not in line
