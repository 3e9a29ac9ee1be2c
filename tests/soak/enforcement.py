"""Enforcement is turned on and off by a flag while every adapter serves good and bare calls."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from openfeature import api

from manor_mcp_interceptors import OpenFeatureGate, Settings, TokenVerifier
from tests.server.adapters import ADAPTERS, NOBODY, REFUSED, Call
from tests.server.callers import token
from tests.support import SECRET
from tests.support.openfeature_provider import ToldProvider

SWITCH_SECONDS: Final = 2.0
"""How long a change of the flag may take to reach every adapter."""
PAUSE: Final = 0.02


@dataclass
class Changes:
    """When the flag was turned, and to what."""

    made: list[tuple[float, bool]] = field(default_factory=list)

    def held(self, since: float, until: float) -> bool | None:
        """Return the flag's value if it had but one from `since` to `until`, else None."""
        before = [on for at, on in self.made if at < since]
        values = {on for at, on in self.made if since <= at <= until} | set(before[-1:])
        return values.pop() if len(values) == 1 else None


@dataclass
class EnforcementResult:
    """What the calls met."""

    calls: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    switches: int = 0

    @property
    def is_good(self) -> bool:
        """Whether every adapter was called, in both modes, and no call met what it should not."""
        met = {(adapter, state) for adapter in ADAPTERS for state in ("good", NOBODY, REFUSED)}
        return not self.wrong and all(self.calls[f"{adapter}: {state}"] for adapter, state in met)

    def report(self) -> str:
        """Return it as text."""
        lines = [f"{name:40}{count:8}" for name, count in sorted(self.calls.items())]
        lines += [f"  wrong: {text} ({count})" for text, count in self.wrong.most_common(5)]
        return "\n".join([*lines, f"switches: {self.switches}"])


def enforcement_soak(seconds: float, period: float = 3.0) -> EnforcementResult:
    """Run for so long; the flag is turned every `period` seconds."""
    told, result, stop = ToldProvider(on=False), EnforcementResult(), threading.Event()
    changes = Changes([(time.monotonic(), False)])
    api.set_provider_and_wait(told)
    try:
        with ExitStack() as stack:
            threads = [
                threading.Thread(target=loop, args=(adapter, send, changes, result, stop))
                for adapter, make in ADAPTERS.items()
                for send in [stack.enter_context(make(_verifier()))]
                for loop in (_good_calls, _bare_calls)
            ]
            for thread in threads:
                thread.start()
            _turn(told, changes, seconds, period, result)
            stop.set()
            for thread in threads:
                thread.join(30)
    finally:
        stop.set()
        api.shutdown()
    return result


def _verifier() -> TokenVerifier:
    settings = Settings(secret=SECRET, enforcement="observe", enforcement_flag="enforce-tokens")
    return TokenVerifier(settings, gate=OpenFeatureGate())


def _turn(
    told: ToldProvider, changes: Changes, seconds: float, period: float, result: EnforcementResult
) -> None:
    """Turn the flag with and without an event; in between its backend fails, then hangs."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() >= end:
            return
        on = number % 2 == 1
        changes.made.append((time.monotonic(), on))
        told.turn(on=on) if number % 4 < 2 else setattr(told, "on", on)
        result.switches += 1
        time.sleep(period * 0.8)
        told.error = ConnectionError("no backend") if number % 3 == 0 else None
        told.release = threading.Event() if number % 3 == 1 else None
        time.sleep(period * 0.2)
        if told.release is not None:
            told.release.set()
        told.error = told.release = None


def _good_calls(
    adapter: str, send: Call, _: Changes, result: EnforcementResult, stop: threading.Event
) -> None:
    _loop(result, stop, lambda: _good_call(adapter, send, result))


def _good_call(adapter: str, send: Call, result: EnforcementResult) -> None:
    met = send([f"Bearer {token()}"])
    result.calls[f"{adapter}: good"] += 1
    if met != "service-a":
        result.wrong[f"{adapter}: a good token met {met}"] += 1


def _bare_calls(
    adapter: str, send: Call, changes: Changes, result: EnforcementResult, stop: threading.Event
) -> None:
    _loop(result, stop, lambda: _bare_call(adapter, send, changes, result))


def _bare_call(adapter: str, send: Call, changes: Changes, result: EnforcementResult) -> None:
    began = time.monotonic()
    met = send([])
    held = changes.held(began - SWITCH_SECONDS, time.monotonic())
    result.calls[f"{adapter}: {met}"] += 1
    if held is not None and met != (REFUSED if held else NOBODY):
        result.wrong[
            f"{adapter}: with the flag {'on' if held else 'off'} a bare call met {met}"
        ] += 1


def _loop(result: EnforcementResult, stop: threading.Event, once: Callable[[], None]) -> None:
    while not stop.wait(PAUSE):
        try:
            once()
        except Exception as error:  # noqa: PERF203 - the next call is another one
            result.wrong[f"{type(error).__name__} {str(error).splitlines()[:1]}"] += 1
