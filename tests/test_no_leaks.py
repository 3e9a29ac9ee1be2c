"""No `repr` of ours shows a secret or a token, whatever object it is asked of."""

from __future__ import annotations

import copy
import gc
import pickle
import traceback
from collections.abc import Callable
from dataclasses import replace

import pytest

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    Httpx2Auth,
    HttpxAuth,
    MCPTokenProvider,
    RequestsAuth,
    Settings,
    SettingsError,
    TokenVerifier,
    get_token,
    grpc_aio_interceptors,
    grpc_call_credentials,
)
from manor_mcp_interceptors._keys import hs256
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors.server import _verification
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import MCPUser, TokenAuthBackend
from manor_mcp_interceptors.testing import AuthServer
from tests.server.forging import claims, forge
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate
from tests.support.http_call import get
from tests.support.leak_guard import PACKAGE

CLIENTS: list[Callable[..., object]] = [
    GrpcAuthInterceptor,
    Httpx2Auth,
    HttpxAuth,
    RequestsAuth,
    grpc_aio_interceptors,
    grpc_call_credentials,
]
SERVERS: list[Callable[..., object]] = [
    MCPTokenDependency,
    GrpcAuthServerInterceptor,
    GrpcAioAuthServerInterceptor,
    MCPTokenVerifier,
    FastMCPTokenVerifier,
    TokenAuthBackend,
]


def shown_by_ours() -> dict[str, str]:
    """Return `repr` and `str` of every object alive whose class is this package's."""
    shown: dict[str, str] = {}
    for each in gc.get_objects():
        kind = type(each)
        if str(kind.__module__).startswith("manor_mcp_interceptors"):
            shown[kind.__qualname__] = f"{shown.get(kind.__qualname__, '')} {each!r} {each!s}"
    return shown


@pytest.mark.parametrize("source", ["variable", "file", "code"])
def test_no_object_of_ours_shows_a_secret_or_a_token(
    env_on: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    source: str,
) -> None:
    """Both doors, after a call was made and a token was refused; and all that they hold."""
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", OTHER_SECRET)
    if source == "file":
        file = tmp_path_factory.mktemp("mounted") / "key"
        file.write_text(SECRET)
        monkeypatch.delenv("MCP_AUTH_SECRET")
        monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(file))
    if source == "code":
        settings = Settings(secret=SECRET, previous_secret=OTHER_SECRET)
        MCPTokenProvider.configure(settings=settings, gate=None)
    token = get_token()
    assert token is not None
    verifier = TokenVerifier()
    verified = verifier.verify(token)
    MCPTokenProvider.get_instance().invalidate(token)
    with AuthServer(SECRET) as server:
        get(server, token)
        get(server, "garbage")
        alive = [
            *(make(provider=MCPTokenProvider.get_instance()) for make in CLIENTS),
            *(make(verifier) for make in SERVERS),
            MCPUser(verified),
        ]
        shown = shown_by_ours()
    assert {"MCPTokenProvider", "TokenVerifier", "Decision", "SigningKey"} <= set(shown)
    assert {"HttpxAuth", "RecordedRequest", "VerifiedToken"} <= set(shown)
    assert len(alive) == len(CLIENTS) + len(SERVERS) + 1
    leaks = [
        name
        for name, text in shown.items()
        if any(hidden in text for hidden in (SECRET, OTHER_SECRET, token))
    ]
    assert leaks == []


def locals_of_ours(error: BaseException) -> str:
    """Return what a reporter that prints locals shows of our frames, constructors included."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [f for f in report.stack if f.filename.startswith(PACKAGE) or f.filename == "<string>"]
    assert ours
    return "\n".join(str(frame.locals) for frame in ours)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings(secret=SECRET, ttl_seconds=0),
        lambda: Settings(secret=SECRET.encode()),  # type: ignore[arg-type]
        lambda: Settings(previous_secret=SECRET.encode()),  # type: ignore[arg-type]
        lambda: Settings.from_env({"MCP_AUTH_SECRET": SECRET, "MCP_AUTH_TTL_SECONDS": "1h"}),
        lambda: replace(Settings(), secret=SECRET, ttl_seconds=0),
    ],
)
def test_wrong_settings_show_no_secret_in_a_traceback(make: Callable[[], Settings]) -> None:
    """Neither the one that is wrong nor one beside it."""
    with pytest.raises(SettingsError) as caught:
        make()
    assert SECRET not in locals_of_ours(caught.value)


def test_a_secret_that_is_no_longer_one_does_not_show_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last good one is remembered, and is nobody's local."""
    keys = KeySource()
    assert keys.signing_key(Settings(secret=SECRET))
    with pytest.raises(SettingsError) as caught:
        keys.signing_key(Settings(secret="ssh-rsa AAAAB3NzaC1yc2E= me"))
    assert SECRET not in locals_of_ours(caught.value)


@pytest.mark.parametrize("step", ["encode", "decode_complete"])
def test_an_interrupt_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, settings: Settings, step: str
) -> None:
    """Control-C while a token is signed, or is held against the secrets."""
    verifier = TokenVerifier(settings, clock=clock)
    provider = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    forged = forge(claims(), secret=OTHER_SECRET)
    monkeypatch.setattr(hs256._jws if step == "encode" else _verification._jws, step, interrupt)
    shown = ""
    try:
        provider.token() if step == "encode" else verifier.verify(forged)
    except KeyboardInterrupt as error:
        shown = locals_of_ours(error)
    assert "self" in shown
    assert SECRET not in shown


def test_a_decision_travels_without_its_token(settings: Settings) -> None:
    """A pickle has the outcome and its reason; a copy in this process is the decision itself."""
    decision = MCPTokenProvider(settings, gate=StaticGate()).decision()
    assert decision.token is not None
    pickled = pickle.dumps(decision)
    assert decision.token.encode() not in pickled
    twin = pickle.loads(pickled)
    assert (twin.token, twin.authorization, twin.metadata_entry) == (None, None, None)
    assert (twin.outcome, twin.reason) == (decision.outcome, decision.reason)
    assert twin.valid_until < decision.valid_until
    assert copy.copy(decision) is copy.deepcopy(decision) is decision
