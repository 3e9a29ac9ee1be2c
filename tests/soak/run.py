"""Run the soak: traffic, rotations and a flag provider that fails and hangs, for so long."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from openfeature import api

from manor_mcp_interceptors import MCPTokenProvider, OpenFeatureGate, Settings, TokenVerifier
from manor_mcp_interceptors._decision import token_cache
from manor_mcp_interceptors._keys.tokens import AccessToken, mint
from tests.support.openfeature_provider import ToldProvider

from .callers import Tally, run_callers, transports
from .growth import Growth
from .mounted import Rotation
from .servers import Servers, start_servers

RECHECK: Final = 0.25
ROTATE_SECONDS: Final = 2.0
SETTLE: Final = 1.0
"""Seconds in which every verifier, or every signer, has re-read, even on a busy machine."""


@dataclass
class Result:
    """What happened during the soak."""

    calls: Counter[str]
    failures: Counter[str]
    rejections: dict[str, int]
    unauthenticated: int
    mints: int
    rotations: int
    longest_pause: float
    """Seconds for which the machine ran no thread; over the margin, tokens expire meanwhile."""
    growth: Growth

    @property
    def is_good(self) -> bool:
        """Whether no call was lost, refused or bare, every adapter has called, and nothing grew."""
        bad = self.failures or self.rejections or self.unauthenticated or self.growth.has_grown()
        return not bad and all(self.calls[name] for name in transports())

    def report(self) -> str:
        """Return it as a table."""
        lines = [f"{name:24}{self.calls[name]:8}" for name in transports()]
        totals = {
            "calls": sum(self.calls.values()),
            "mints": self.mints,
            "rotations": self.rotations,
            "refusals": sum(self.rejections.values()),
            "unauthenticated calls": self.unauthenticated,
            "failed calls": sum(self.failures.values()),
        }
        lines += [f"{name:24}{count:8}" for name, count in totals.items()]
        lines += [f"  {text} ×{count}" for text, count in self.failures.most_common(5)]  # noqa: RUF001
        lines += [f"  refused: {reason} ×{count}" for reason, count in self.rejections.items()]  # noqa: RUF001
        lines += [
            f"{kind} after the first seconds, at the end: {before}, {after}"
            for kind, before, after in self.growth.table()
        ]
        lines.append(f"longest pause of the machine: {self.longest_pause:.2f} s")
        return "\n".join(lines)


def soak(seconds: float, say: Callable[[str], None]) -> Result:
    """Run for so long; `say` is given a progress line a second."""
    told = ToldProvider()
    api.set_provider_and_wait(told)
    with tempfile.TemporaryDirectory() as folder, _counted_mints() as mints:
        rotation = Rotation(Path(folder))
        gate = OpenFeatureGate()
        MCPTokenProvider.configure(settings=_signer(rotation), gate=gate)
        try:
            assert MCPTokenProvider.get_token() is not None  # the answer that is known from here on
            with start_servers(_verifiers(rotation)) as servers:
                return _run(seconds, say, servers, rotation, told, mints)
        finally:
            told.release = None
            MCPTokenProvider.reset()
            api.shutdown()


def _signer(rotation: Rotation) -> Settings:
    return Settings(
        secret_file=rotation.signers.path("current"),
        subject="soak",
        ttl_seconds=2,
        margin_seconds=1,
        recheck_seconds=RECHECK,
    )


def _verifiers(rotation: Rotation) -> tuple[TokenVerifier, TokenVerifier, TokenVerifier]:
    settings = Settings(
        secret_file=rotation.verifiers.path("current"),
        previous_secret_file=rotation.verifiers.path("previous"),
        recheck_seconds=RECHECK,
    )
    return TokenVerifier(settings), TokenVerifier(settings), TokenVerifier(settings)


def _run(
    seconds: float,
    say: Callable[[str], None],
    servers: Servers,
    rotation: Rotation,
    told: ToldProvider,
    mints: list[None],
) -> Result:
    tally, stop, end = Tally(), threading.Event(), time.monotonic() + seconds
    pauses: list[float] = [0.0]
    troubles = [
        threading.Thread(target=_rotate, args=(rotation, stop), daemon=True),
        threading.Thread(target=_trouble, args=(told, stop), daemon=True),
        threading.Thread(target=_watch, args=(pauses, stop), daemon=True),
    ]
    threads = [*run_callers(servers, tally, stop), *troubles]
    for thread in troubles:
        thread.start()
    growth = Growth()
    with growth.watched():
        while (left := end - time.monotonic()) > 0:
            stop.wait(min(1.0, left))
            calls, refused = sum(tally.calls.values()), sum(servers.rejections().values())
            say(f"{max(left, 0):4.0f} s left: {calls} calls, {len(mints)} mints, {refused} refused")
    stop.set()
    for thread in threads:
        thread.join(60)
    return Result(
        tally.calls,
        tally.failures,
        servers.rejections(),
        servers.unauthenticated(),
        len(mints),
        rotation.count,
        max(pauses),
        growth,
    )


def _rotate(rotation: Rotation, stop: threading.Event) -> None:
    while not stop.wait(ROTATE_SECONDS - SETTLE):
        rotation.teach_verifiers()
        if stop.wait(SETTLE):
            return
        rotation.switch_signers()


def _trouble(told: ToldProvider, stop: threading.Event) -> None:
    """Let the flag's provider fail, hang and recover, in turns."""
    for trouble in itertools.cycle(("fails", "works", "hangs", "works")):
        told.error = ConnectionError("no backend") if trouble == "fails" else None
        told.release = threading.Event() if trouble == "hangs" else None
        stopped = stop.wait(0.7)
        if told.release is not None:
            told.release.set()
        if stopped:
            return


def _watch(pauses: list[float], stop: threading.Event) -> None:
    while not stop.is_set():
        began = time.monotonic()
        time.sleep(0.05)
        pauses[0] = max(pauses[0], time.monotonic() - began - 0.05)


@contextmanager
def _counted_mints() -> Iterator[list[None]]:
    mints: list[None] = []

    def counting(*args: Any) -> AccessToken:
        mints.append(None)
        return mint(*args)

    with patch.object(token_cache, "mint", counting):
        yield mints
