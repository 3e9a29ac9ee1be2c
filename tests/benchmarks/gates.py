"""The cached token behind every kind of gate."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from manor_mcp_interceptors import MCPTokenProvider, OpenFeatureGate, Settings, get_token
from manor_mcp_interceptors._flags.gates import EnvironmentGate, ManorGate
from manor_mcp_interceptors.protocols import Gate
from manor_mcp_interceptors.provider import _instances
from tests.support import FLAG, SECRET, StaticGate

from ._harness import Bench, Row, Run, Table, calls
from ._setup import Snapshot


def tables(bench: Bench) -> Iterator[Table]:
    """Compare leased gates with the bare snapshot; show what asking at every call costs."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, {FLAG.upper(): "on"}))
        stack.enter_context(_manor())
        token = provider(StaticGate()).token() or ""
        leased = {
            "a gate of one's own, non-blocking": provider(StaticGate()),
            "a gate of one's own, on a worker thread": provider(BlockingGate()),
            "EnvironmentGate": provider(EnvironmentGate()),
            "ManorGate": provider(ManorGate()),
            "the default gates": provider(None),
            **stack.enter_context(_openfeature()),
        }
        per_call = {
            "per_call = True, non-blocking": provider(PerCallGate()),
            "MCP_AUTH_RECHECK_SECONDS=0": provider(StaticGate(), recheck_seconds=0),
            "the same, settings from the environment": _from_environment(stack),
        }
        stack.enter_context(mock.patch.dict(_instances, {**leased, **per_call}))
        yield bench.compare(
            "get_token() behind every gate",
            [
                Row("bare snapshot method, clock check", calls(Snapshot(token).get), "floor"),
                *(Row(name, _get_token(name), "ours", at_most=1.6) for name in leased),
                *(Row(name, _get_token(name), "ours") for name in per_call),
            ],
            unit="ns",
            notes=("the last three ask gate and settings at every call, as they were told to",),
        )


def _get_token(name: str) -> Run:
    """Return a run of `get_token()`; each gate's provider stands in for that of an audience."""
    return calls(partial(get_token, name))


def provider(gate: Gate | None, **settings: Any) -> MCPTokenProvider:
    """Return a provider that has decided already."""
    made = MCPTokenProvider(Settings(secret=SECRET, **settings), gate=gate)
    if made.token() is None:
        raise RuntimeError(made.status().reason)
    return made


def _from_environment(stack: ExitStack) -> MCPTokenProvider:
    variables = {"MCP_AUTH_SECRET": SECRET, "MCP_AUTH_RECHECK_SECONDS": "0"}
    stack.enter_context(mock.patch.dict(os.environ, variables))
    return MCPTokenProvider(gate=StaticGate())


class BlockingGate:
    """A gate that promises nothing, so it is asked on a worker thread."""

    def is_enabled(self, key: str, *, subject: str) -> bool:
        return True


class PerCallGate(StaticGate):
    per_call = True


@contextmanager
def _manor() -> Iterator[None]:
    """Stand in for a package that is not on PyPI."""
    package, flags = ModuleType("manor"), ModuleType("manor.feature_flags")
    flags.is_enabled = lambda _key: True  # type: ignore[attr-defined]
    package.feature_flags = flags  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, {"manor": package, "manor.feature_flags": flags}):
        yield


@contextmanager
def _openfeature() -> Iterator[dict[str, MCPTokenProvider]]:
    """Set real providers for OpenFeature: in memory, and flagd on the rollout of docs/flag.md."""
    flag = InMemoryFlag("on", {"on": True, "off": False})
    file = str(Path(__file__).parent.parent / "data" / "flags.json")
    flagd = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=file)
    api.set_provider_and_wait(InMemoryProvider({FLAG: flag}), "memory")
    api.set_provider_and_wait(flagd, "flagd")
    try:
        yield {
            "OpenFeatureGate, in memory": provider(OpenFeatureGate(domain="memory")),
            "OpenFeatureGate, flagd in file mode": provider(
                OpenFeatureGate(domain="flagd"), subject="service-indexer"
            ),
        }
    finally:
        api.shutdown()
        api.clear_providers()
