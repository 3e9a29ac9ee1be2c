"""Which adapters could be used here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from .checks import Check, State

ADAPTERS: Final = (
    ("RequestsAuth", "requests", "requests"),
    ("HttpxAuth", "httpx", "httpx"),
    ("Httpx2Auth", "httpx2", "httpx2"),
    ("GrpcAuthInterceptor", "grpcio", "grpc"),
    ("MCPTokenVerifier", "mcp", "mcp"),
    ("OpenFeatureGate", "openfeature-sdk", "openfeature"),
    ("metrics and spans", "opentelemetry-api", "otel"),
)
"""Each adapter, the distribution it stands on, and the extra that installs it."""


def check_adapters() -> Check:
    """Tell the version of each adapter's library; none of them is imported for that."""
    rows = []
    found = 0
    for adapter, distribution, extra in ADAPTERS:
        try:
            shown = f"{distribution} {version(distribution)}"
            found += 1
        except PackageNotFoundError:
            shown = f"not installed: pip install 'manor-mcp-interceptors[{extra}]'"
        rows.append((adapter, shown))
    return Check("adapters", State.NOTE, f"{found} of {len(rows)} installed", more=tuple(rows))
