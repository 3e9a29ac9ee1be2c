"""Enforce or observe: the table of adapters, tokens and modes, on real servers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from manor_mcp_interceptors import Settings, TokenVerifier
from tests.server.adapters import ADAPTERS, NOBODY, REFUSED, Call, Grpc
from tests.server.callers import token
from tests.support import SECRET

CALLS: dict[str, tuple[Callable[[], list[str]], str | None]] = {
    "no token": (list, "missing"),
    "bad token": (lambda: [f"Bearer {token(age=3600)}"], "expired"),
    "other issuer": (lambda: [f"Bearer {token(iss='https://idp.example')}"], "other_issuer"),
    "good token": (lambda: [f"Bearer {token()}"], None),
}


class Flag:
    """A gate that answers, fails or hangs, as it is told."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.release = threading.Event()

    def is_enabled(self, key: str, *, subject: str) -> bool:
        if self.state == "failing":
            raise ConnectionError("no backend")
        if self.state == "hanging":
            self.release.wait(30)
        return self.state == "on"


@dataclass(frozen=True)
class Mode:
    """The two settings, and what they come to."""

    variable: str
    flag: str | None
    enforces: bool


MODES = {
    "enforce": Mode("enforce", None, enforces=True),
    "observe": Mode("observe", None, enforces=False),
    "flag on": Mode("observe", "on", enforces=True),
    "flag off": Mode("enforce", "off", enforces=False),
    "flag failing, enforce": Mode("enforce", "failing", enforces=True),
    "flag failing, observe": Mode("observe", "failing", enforces=False),
    "flag hanging, enforce": Mode("enforce", "hanging", enforces=True),
    "flag hanging, observe": Mode("observe", "hanging", enforces=False),
}


@contextmanager
def running(adapter: str, mode: Mode, flag: Flag) -> Iterator[tuple[Call, TokenVerifier]]:
    settings = Settings(
        secret=SECRET,
        enforcement=mode.variable,  # type: ignore[arg-type]
        enforcement_flag=None if mode.flag is None else "enforce-tokens",
    )
    verifier = TokenVerifier(settings, gate=flag, other_issuers=True)
    try:
        with ADAPTERS[adapter](verifier) as send:
            yield send, verifier
    finally:
        flag.release.set()


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, id=name, marks=() if name == "observe" else pytest.mark.slow)
        for name, mode in MODES.items()  # the inner loop runs one of them; all take half a minute
    ],
)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_what_each_call_meets(adapter: str, mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """What the caller gets, what the handler sees, what is counted, what is logged."""
    caplog.set_level(logging.INFO, "manor_mcp_interceptors")
    with running(adapter, mode, Flag(mode.flag or "on")) as (send, verifier):
        met = {name: send(values()) for name, (values, _) in CALLS.items()}
        stats = verifier.stats()

    unverified = REFUSED if mode.enforces else NOBODY
    assert met == dict.fromkeys(CALLS, unverified) | {"good token": "service-a"}
    assert set(stats.rejected) == ({"missing", "expired"} if mode.enforces else set())
    assert set(stats.observed) == (set() if mode.enforces else {"missing", "expired"})
    assert stats.other_issuers >= 1
    text = "\n".join(caplog.messages)
    refused = [line for line in caplog.messages if "refused a call" in line]
    observed = [line for line in caplog.messages if "let a call through" in line]
    assert len(refused) == (2 if mode.enforces else 0)
    assert len(observed) == (0 if mode.enforces else 2)
    assert all("127.0.0.1" in line for line in observed)
    assert [
        line for line in observed if "expired" in line and "subject 'service-a'" not in line
    ] == []
    if isinstance(ADAPTERS[adapter], Grpc):
        assert all("grpc-python" in line for line in observed)
    assert ("MCP auth observes" in text) is (not mode.enforces)
    assert "idp.example" not in text
    assert "eyJ" not in text


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_flag_switches_a_adapter_while_it_serves(adapter: str) -> None:
    """In both directions, within the recheck interval; a good token passes all the time."""
    flag = Flag("off")
    with running(adapter, MODES["flag off"], flag) as (send, _):
        for state, expected in (("off", NOBODY), ("on", REFUSED), ("off", NOBODY)):
            flag.state = state
            changed = time.monotonic()
            while send([]) != expected:
                assert time.monotonic() < changed + 2
                assert send([f"Bearer {token()}"]) == "service-a"


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_hanging_flag_holds_up_no_call(adapter: str) -> None:
    """Neither a good nor a bare one, once the first answer has been waited for."""
    with running(adapter, MODES["flag hanging, observe"], Flag("hanging")) as (send, _):
        send([])
        began = time.monotonic()
        for _ in range(5):
            assert send([]) == NOBODY
            assert send([f"Bearer {token()}"]) == "service-a"
        assert time.monotonic() - began < 2
