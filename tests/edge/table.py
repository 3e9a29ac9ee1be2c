"""Run the table against one proxy."""

from __future__ import annotations

from itertools import count

import grpc

from .cases import GRPC, HTTP, NOBODY, UNAUTHENTICATED, Case, GrpcCase
from .deviations import DEVIATIONS
from .grpc_calls import call
from .http_calls import send
from .proxies import Proxy
from .upstreams import CASE, Upstreams

_numbers = count()


def http_outcome(proxy: Proxy, services: Upstreams, case: Case) -> str:
    """Return what became of one HTTP call: whom the service saw, or the proxy's status."""
    number = f"http-{next(_numbers)}"
    status = send(proxy.http, [*case.headers(), (CASE, number)])
    return seen_by_service(services, number) or str(status)


def seen_by_service(services: Upstreams, number: str) -> str | None:
    """Return whom the service saw; None if the call did not reach it."""
    received = services.received(number)
    if not received:
        return None
    if len(received) > 1:
        return f"{len(received)} calls"
    headers = received[0]
    evil = [name for name in headers if name in {"x-evil", "upgrade"} or {"_", "."} & {*name}]
    callers = [value for value in headers.get("x-mcp-caller", []) if value]
    scopes = [value for value in headers.get("x-mcp-scope", []) if value]
    seen = " and ".join(callers) or NOBODY
    seen += f" ({' '.join(scopes)})" if scopes else ""
    return seen + "".join(f" with {name}" for name in evil)


def grpc_outcome(channel: grpc.Channel, services: Upstreams, case: GrpcCase) -> str:
    """Return what became of one gRPC call: whom the service saw, or the status at the client."""
    number = f"grpc-{next(_numbers)}"
    status = call(channel, case.kind, [*case.metadata(), (CASE, number)])
    seen = seen_by_service(services, number)
    if seen is None or status is None:
        return seen or str(status)
    return f"{seen}, then {status}"


def outcomes(proxy: Proxy, services: Upstreams) -> dict[str, str]:
    """Return what became of every call of the table, by its name."""
    found = {case.name: http_outcome(proxy, services, case) for case in HTTP}
    with grpc.insecure_channel(proxy.grpc) as channel:
        found |= {case.name: grpc_outcome(channel, services, case) for case in GRPC}
    return found


def expected(name: str, *, observe: bool = False) -> dict[str, str]:
    """Return the outcomes that were measured for a configuration; "or" stands between two."""
    verdicts = {case.name: case.outcome for case in HTTP}
    verdicts |= {case.name: case.outcome for case in GRPC}
    verdicts |= DEVIATIONS[name]
    if not observe:
        return verdicts
    return {case: NOBODY if is_verdict(outcome) else outcome for case, outcome in verdicts.items()}


def is_verdict(outcome: str) -> bool:
    """Return whether the token was refused; a 400 or 431 refuses the request whatever it holds."""
    return bool({*outcome.split()} & {"401", "403", UNAUTHENTICATED, "PERMISSION_DENIED"})


def offenders(expected_outcomes: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return a line for each call whose outcome is not as expected."""
    return [
        f"{case}: {found[case]}, not {outcome}"
        for case, outcome in expected_outcomes.items()
        if found[case] not in outcome.split(" or ")
    ]
