"""Run the table against one proxy."""

from __future__ import annotations

from itertools import count

import grpc

from .cases import NOBODY, Case, GrpcCase
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
    evil = [name for name in headers if name == "x-evil" or "_" in name]
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
