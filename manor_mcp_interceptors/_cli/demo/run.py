"""The demo, from the start of the servers to the result."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from manor_mcp_interceptors import MCPTokenProvider
from manor_mcp_interceptors._cli.files import write_public, write_secret
from manor_mcp_interceptors._cli.key_files import bind, with_key
from manor_mcp_interceptors._cli.mcp_sdk import HAS_SESSIONLESS
from manor_mcp_interceptors._keys.new_key import new_private_key
from manor_mcp_interceptors._keys.private_key import parse_private_key
from manor_mcp_interceptors.settings import Settings

from .grpc_calls import call_grpc, call_grpc_aio
from .guestbook import NO_TOKEN, REFUSED
from .http_calls import call_http, call_http_async
from .mcp_calls import call_mcp
from .report import Phase, Report
from .servers import Servers, start_servers

SUBJECT: Final = "demo-caller"
CALLS_PER_PHASE: Final = 45 if HAS_SESSIONLESS else 42
"""With fewer calls, an adapter was left out."""


class _Gate:
    """The feature flag of a phase."""

    blocking: Final = False

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def is_enabled(self, key: str, *, subject: str) -> bool:  # noqa: ARG002 - the Protocol's
        return self._on


def run(write: Callable[[str], object] = print, phases: Sequence[Phase] | None = None) -> int:
    """Run every phase against real servers; return the exit status.

    The demo sets settings and flag itself, and ignores the environment. Afterwards the
    process-wide provider uses the environment again.

    Args:
        write: Takes each line.
        phases: What to run instead of `standard_phases` and `key_phases`.
    """
    start = time.monotonic()
    report = Report(write)
    with _quiet_logs(), TemporaryDirectory() as folder:
        if phases is None:
            phases = (*standard_phases(), *key_phases(Path(folder)))
        try:
            for settings, same in groupby(phases, lambda phase: phase.servers):
                _run_phases(same, settings, report)
        finally:
            MCPTokenProvider.reset()
    return _conclude(report, write, time.monotonic() - start)


def standard_phases() -> tuple[Phase, ...]:
    """Return the three phases with a shared secret, made for this run."""
    good = Settings(secret=secrets.token_urlsafe(32), subject=SUBJECT)
    wrong = replace(good, secret=secrets.token_urlsafe(32))
    on, off = "Flag on: the servers know the caller", "Flag off: no token, so they refuse"
    forged = "Wrong secret: they refuse the token"
    return (
        Phase(on, good, good, flag_on=True, seen=SUBJECT),
        Phase(off, good, good, flag_on=False, seen=NO_TOKEN),
        Phase(forged, wrong, good, flag_on=True, seen=REFUSED),
    )


def key_phases(folder: Path) -> tuple[Phase, ...]:
    """Return the two phases without a secret, with keys made in `folder`."""
    private, jwks = folder / "caller.pem", folder / "jwks.json"
    text = new_private_key("ES256")
    write_secret(private, text, force=False)
    public = parse_private_key(text, str(private)).public_jwk()
    write_public(jwks, with_key(jwks, bind(public, [SUBJECT])))
    caller = Settings(private_key_file=private, subject=SUBJECT)
    servers = Settings(jwks_file=jwks)
    own = "No secret: the caller signs with its own key, the servers have the public one"
    other = f"The same key, another name: they refuse it, as it is bound to {SUBJECT}"
    return (
        Phase(own, caller, servers, flag_on=True, seen=SUBJECT),
        Phase(other, replace(caller, subject="another"), servers, flag_on=True, seen=REFUSED),
    )


def _run_phases(phases: Iterable[Phase], settings: Settings, report: Report) -> None:
    with start_servers(settings) as servers:
        report.write(f"\nMCP server:   {servers.mcp.url}")
        report.write(f"HTTP service: {servers.http.url}")
        report.write(
            f"gRPC service: {servers.grpc.target}, and {servers.grpc.local_target} (secured)"
        )
        for phase in phases:
            _run_phase(phase, servers, report)


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
    """Keep the logs of the libraries out of the table."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)
