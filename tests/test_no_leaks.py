"""No `repr`, traceback local or pickle of this package shows a secret or a token."""

from __future__ import annotations

import copy
import gc
import pickle
import pprint
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from manor_mcp_interceptors import (
    AiohttpAuth,
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
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency
from manor_mcp_interceptors.server.fastmcp_verifier import FastMCPTokenVerifier
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor
from manor_mcp_interceptors.server.mcp_verifier import MCPTokenVerifier
from manor_mcp_interceptors.server.starlette_backend import MCPUser, TokenAuthBackend
from manor_mcp_interceptors.testing import AuthServer
from tests.server.forging import claims, forge
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate
from tests.support.holders import HOLDERS, is_shown, private_pem
from tests.support.http_call import get
from tests.support.key_pairs import key_pair, write_jwks
from tests.support.leak_guard import PACKAGE

CLIENTS: list[Callable[..., object]] = [
    AiohttpAuth,
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


def shown_by_the_package() -> dict[str, str]:
    """Return `repr` and `str` of every object alive whose class is this package's.

    The `str` of a text is what is sent: only its `repr` may hide it.
    """
    shown: dict[str, str] = {}
    for each in gc.get_objects():
        kind = type(each)
        if str(kind.__module__).startswith("manor_mcp_interceptors"):
            text = repr(each) if isinstance(each, str) else f"{each!r} {each!s}"
            shown[kind.__qualname__] = f"{shown.get(kind.__qualname__, '')} {text}"
    return shown


@pytest.mark.parametrize("source", ["variable", "file", "code", "private key"])
def test_no_object_of_the_package_shows_a_secret_or_a_token(
    env_on: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    source: str,
) -> None:
    """Client and server, after a call was made and a token was refused; and all that they hold."""
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET", OTHER_SECRET)
    if source == "file":
        file = tmp_path_factory.mktemp("mounted") / "key"
        file.write_text(SECRET)
        monkeypatch.delenv("MCP_AUTH_SECRET")
        monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(file))
    if source == "private key":
        folder = tmp_path_factory.mktemp("keys")
        (folder / "key").write_text(private_pem())
        monkeypatch.delenv("MCP_AUTH_SECRET")
        monkeypatch.setenv("MCP_AUTH_PRIVATE_KEY_FILE", str(folder / "key"))
        monkeypatch.setenv(
            "MCP_AUTH_JWKS_FILE", str(write_jwks(folder / "jwks", key_pair("ES256")))
        )
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
        shown = shown_by_the_package()
    assert {"MCPTokenProvider", "TokenVerifier", "Decision", "SharedSecret"} <= set(shown)
    assert {"HttpxAuth", "RecordedRequest", "VerifiedToken"} <= set(shown)
    assert len(alive) == len(CLIENTS) + len(SERVERS) + 1
    leaks = [name for name, text in shown.items() if token in text or is_shown(text, None)]
    assert leaks == []


@pytest.mark.parametrize("name", HOLDERS)
def test_no_value_shows_a_secret_or_a_token(env_on: None, name: str) -> None:
    """`repr`, `str`, `format` and `pprint`, alone and as part of something else."""
    held = HOLDERS[name]()
    shown = f"{held!r} {held} {[held]} {pprint.pformat({1: held})}"
    assert not is_shown(shown, held)


SECRET_FIELDS = {
    *("secret", "previous_secret", "secret_file", "previous_secret_file"),
    *("token", "value", "authorization", "metadata_entry", "data", "inputs"),
}


def test_no_value_class_has_a_secret_or_a_token_in_its_repr() -> None:
    """Whatever a class calls it; one that keeps a verified token's claims has no token."""
    modules = [m for n, m in sys.modules.items() if n.startswith("manor_mcp_interceptors")]
    classes = {c for m in modules for c in vars(m).values() if isinstance(c, type)}
    shown = [
        f"{kind.__qualname__}.{one.name}"
        for kind in classes
        if is_dataclass(kind) and kind.__module__.startswith("manor_mcp_interceptors")
        for one in fields(kind)
        if one.name in SECRET_FIELDS and one.repr and one.type not in ("VerifiedToken", "bool")
    ]
    assert shown == []


def locals_of_the_package(error: BaseException) -> str:
    """Return the locals of this package's frames, as an error reporter prints them."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [f for f in report.stack if f.filename.startswith(PACKAGE) or f.filename == "<string>"]
    assert frames
    return "\n".join(str(frame.locals) for frame in frames)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings(secret=SECRET, ttl_seconds=0),
        lambda: Settings(secret=SECRET.encode()),  # type: ignore[arg-type]
        lambda: Settings(previous_secret=SECRET.encode()),  # type: ignore[arg-type]
        lambda: Settings.from_env({"MCP_AUTH_SECRET": SECRET, "MCP_AUTH_TTL_SECONDS": "1h"}),
        lambda: Settings.from_env({"MCP_AUTH_SECRET": SECRET, "SERVICE_NAME": "\udcff"}),
        lambda: replace(Settings(), secret=SECRET, ttl_seconds=0),
        lambda: replace(Settings(secret=SECRET), ttl_seconds=0),
        lambda: Settings(secret=SECRET, ttl=60),  # type: ignore[call-arg]
        lambda: Settings(secret_file=f"{SECRET}\0"),
    ],
)
def test_wrong_settings_show_no_secret_in_a_traceback(make: Callable[[], Settings]) -> None:
    """Neither the one that is wrong nor one beside it."""
    with pytest.raises((SettingsError, TypeError)) as caught:
        make()
    assert caught.value.__context__ is None
    assert SECRET not in locals_of_the_package(caught.value)


def test_a_secret_that_becomes_unusable_does_not_show_the_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last good one is remembered, but is in no frame's locals."""
    keys = KeySource()
    assert keys.signing_key(Settings(secret=SECRET))
    with pytest.raises(SettingsError) as caught:
        keys.signing_key(Settings(secret="ssh-rsa AAAAB3NzaC1yc2E= me"))
    assert SECRET not in locals_of_the_package(caught.value)


@pytest.mark.parametrize("step", ["encode", "decode_complete"])
def test_an_interrupt_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, settings: Settings, step: str
) -> None:
    """Control-C while a token is signed or verified."""
    verifier = TokenVerifier(settings, clock=clock)
    provider = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    forged = forge(claims(), secret=OTHER_SECRET)
    monkeypatch.setattr(jwt.PyJWS, step, interrupt)
    shown = ""
    try:
        provider.token() if step == "encode" else verifier.verify(forged)
    except KeyboardInterrupt as error:
        shown = locals_of_the_package(error)
    assert "self" in shown
    assert SECRET not in shown


class TimeLimitError(Exception):
    """What a worker's time limit raises, in whatever runs."""


def test_a_time_limit_shows_no_private_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loading an RSA key takes milliseconds, in which a signal may come."""

    def interrupt(*_: object, **__: object) -> None:
        raise TimeLimitError

    pem, file = key_pair("RS256").pem(), tmp_path / "key.pem"
    file.write_text(pem)
    monkeypatch.setattr(serialization, "load_pem_private_key", interrupt)
    with pytest.raises(TimeLimitError) as caught:
        KeySource().signing_key(Settings(private_key_file=file))
    shown = locals_of_the_package(caught.value)
    assert "text" in shown
    assert not [line for line in pem.splitlines()[1:-1] if line in shown]


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
