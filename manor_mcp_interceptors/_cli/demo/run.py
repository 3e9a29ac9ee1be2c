"""The demo, from the first server's start to the verdict."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from manor_mcp_interceptors import MCPTokenProvider
from manor_mcp_interceptors.settings import Settings

from .grpc_calls import call_grpc, call_grpc_aio
from .guestbook import NO_TOKEN, REFUSED
from .http_calls import call_http, call_http_async
from .mcp_calls import call_mcp
from .report import Phase, Report
from .servers import Servers, start_servers

SUBJECT: Final = "demo-application"
CALLS_PER_PHASE: Final = 42
"""Fewer than that, and an adapter was left out."""


class _Gate:
    """The feature flag, as the phase wants it."""

    blocking: Final = False

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def is_enabled(self, key: str, *, subject: str) -> bool:  # noqa: ARG002 - the Protocol's
        return self._on


def run(write: Callable[[str], object] = print, phases: Sequence[Phase] | None = None) -> int:
    """Run every phase against the same servers; return the exit status.

    Settings and flag are the demo's own, whatever the environment says. The process-wide
    provider is back at the environment afterwards.

    Args:
        write: Takes each line.
        phases: What to run instead of the three phases of `standard_phases`. The servers accept
            the secret of the first one.
    """
    start = time.monotonic()
    phases = standard_phases() if phases is None else phases
    report = Report(write)
    with _quiet_logs(), start_servers(phases[0].settings) as servers:
        write(f"MCP server at {servers.mcp.url}, HTTP service at {servers.http.url},")
        write(f"gRPC service at {servers.grpc.target} and, secured, {servers.grpc.local_target}")
        try:
            for phase in phases:
                _run_phase(phase, servers, report)
        finally:
            MCPTokenProvider.reset()
    return _conclude(report, write, time.monotonic() - start)


def standard_phases() -> tuple[Phase, ...]:
    """Return the three phases, with secrets made for this run."""
    good = Settings(secret=secrets.token_urlsafe(32), subject=SUBJECT)
    wrong = replace(good, secret=secrets.token_urlsafe(32))
    on, off = "Flag on: the servers know the caller", "Flag off: no token, refused; we go on"
    forged = "Wrong secret: a token, refused; we go on"
    return (
        Phase(on, good, flag_on=True, seen=SUBJECT),
        Phase(off, good, flag_on=False, seen=NO_TOKEN),
        Phase(forged, wrong, flag_on=True, seen=REFUSED),
    )


def _run_phase(phase: Phase, servers: Servers, report: Report) -> None:
    MCPTokenProvider.configure(settings=phase.settings, gate=_Gate(on=phase.flag_on))
    report.begin(phase)
    before = len(report.calls)
    call_http(servers, report)
    call_grpc(servers, report)
    asyncio.run(_call_async(servers, report))
    made = len(report.calls) - before
    if made != CALLS_PER_PHASE:
        report.fail(f"{phase.title}: {made} calls were made, not {CALLS_PER_PHASE}")


async def _call_async(servers: Servers, report: Report) -> None:
    await call_http_async(servers, report)
    await call_grpc_aio(servers, report)
    await call_mcp(servers, report)


def _conclude(report: Report, write: Callable[[str], object], seconds: float) -> int:
    if not report.problems:
        write(f"\nAll {len(report.calls)} calls went as expected, in {seconds:.1f} s.")
        return 0
    write(f"\n{len(report.problems)} of {len(report.calls)} calls did not go as expected:")
    for problem in report.problems:
        write(f"  {problem}")
    return 1


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep the libraries' logs out of the table, which says it all."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)
