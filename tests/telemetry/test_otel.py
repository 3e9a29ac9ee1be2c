"""OpenTelemetry: what its readers see, and that it costs nothing where it is not used.

Meters and tracers are set once in a process, so each test has a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from manor_mcp_interceptors._telemetry import otel
from tests.support import FLAG, SECRET

READER = """
import sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()

def points():
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else []:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    words = [f"{k}={v}" for k, v in point.attributes.items()]
                    sums = vars(metric.data).get("is_monotonic", "gauge")
                    yield (scope.scope.name, metric.name, metric.unit, sums, *words, point.value)
"""


def run(code: str, **variables: str) -> str:
    """Run `code` in a fresh interpreter with auth configured, and return what it printed."""
    names = {"MCP_AUTH_SECRET": SECRET, FLAG.upper(): "on", **variables}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | names,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert SECRET not in done.stdout
    return done.stdout


EVENTS = """
import logging
from manor_mcp_interceptors import MCPTokenProvider
from manor_mcp_interceptors._telemetry.counters import TOTALS
logging.getLogger("manor_mcp_interceptors").setLevel("ERROR")
provider = MCPTokenProvider.get_instance()
token = provider.token()
provider.invalidate(token)
provider.token()
provider.counters.count("retries")
for word in ("accepted", "remembered", "remembered"):
    TOTALS.count("verifications", word, "current")
TOTALS.count("verifications", "expired")
TOTALS.count("decisions", "invalid_config")
"""
SEEN = """\
decisions {decision} outcome=invalid_config error.type=invalid_config 1
decisions {decision} outcome=ok audience=service-search-mcp 2
mints {token} 1
refreshes {refresh} 1
retries {request} 1
secret.info  role=signing fingerprint=9de3-17ee 1
verifications {token} result=accepted key=current 1
verifications {token} result=expired error.type=expired 1
verifications {token} result=remembered key=current 2
"""
SHOW = """
for scope, name, unit, kind, *rest in sorted(points(), key=str):
    assert (scope, kind) == ("manor_mcp_interceptors", "gauge" if "secret" in name else True)
    print(*(str(part).replace("manor.mcp_auth.", "") for part in (name, unit, *rest)))
assert not any(token in str(point) for point in points())
"""


def test_the_counters_are_metrics() -> None:
    """Each one, with its name, its unit and its attributes; a failure has its type beside it."""
    code = "metrics.set_meter_provider(MeterProvider([reader]))\n"
    assert run(READER + code + EVENTS + SHOW) == SEEN


def test_a_meter_that_is_set_up_late_sees_everything() -> None:
    """A service may decide before it sets up telemetry, or before it imports any."""
    code = "metrics.set_meter_provider(MeterProvider([reader]))\n"
    assert run(READER + EVENTS + code + SHOW) == SEEN
    always = {"MCP_AUTH_RECHECK_SECONDS": "0"}
    later = code + "provider.token()\n"
    more = SEEN.replace("audience=service-search-mcp 2", "audience=service-search-mcp 3")
    assert run(EVENTS + READER + later + SHOW, **always) == more


def test_many_threads_register_the_metrics_once() -> None:
    """Twice would double every number."""
    code = """
import threading
from manor_mcp_interceptors import MCPTokenProvider
metrics.set_meter_provider(MeterProvider([reader]))
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(8)
def work(n):
    barrier.wait()
    MCPTokenProvider.get_instance(f"audience-{n}").token()
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads], [t.join() for t in threads]
print(*[p[-1] for p in points() if p[1].endswith("decisions")])
"""
    assert run(READER + code) == "1 1 1 1 1 1 1 1\n"


def test_the_audiences_of_decisions_are_bounded() -> None:
    """The further ones are one series; the sum stays right."""
    code = """
from manor_mcp_interceptors import MCPTokenProvider, get_token
metrics.set_meter_provider(MeterProvider([reader]))
for n in range(150):
    get_token(f"audience-{n}")
seen = {p[-2].rpartition("=")[2]: p[-1] for p in points() if p[1].endswith("decisions")}
print(len(seen), seen["audience-99"], seen["other"])
"""
    assert run(READER + code) == "101 1 50\n"


SPAN = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
tracing = TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(tracing)
from manor_mcp_interceptors.client._bound_provider import BoundProvider
source = BoundProvider(None, None, required=False)
with trace.get_tracer("t").start_as_current_span("call"):
    for _ in range(3):
        source.decision()
source.decision()  # outside any span
print(*[dict(span.attributes) for span in exporter.get_finished_spans()])
"""


def test_the_callers_span_tells_the_outcome() -> None:
    """At every call of an adapter's, not just where a decision is made."""
    assert run(SPAN) == "{'manor.mcp_auth.outcome': 'ok'}\n"
    off = run(SPAN, **{FLAG.upper(): "off"})
    assert off == "{'manor.mcp_auth.outcome': 'flag_off'}\n"


def test_opentelemetry_is_left_alone_where_the_application_does_not_use_it() -> None:
    """Installed or not, it is not imported by us."""
    code = """
import sys
from manor_mcp_interceptors import get_token
from manor_mcp_interceptors._telemetry import otel
from manor_mcp_interceptors.client._bound_provider import BoundProvider
assert get_token() and BoundProvider(None, None, required=False).decision()
print([n for n in sys.modules if n.startswith("opentelemetry")], otel.annotate)
"""
    assert run(code) == "[] None\n"
    absent = "import sys; sys.modules['opentelemetry'] = None\n"
    assert run(absent + code) == "['opentelemetry'] None\n"


def test_no_span_is_looked_for_where_nothing_records() -> None:
    """The API alone, as the MCP SDK brings it, costs no call a look; a tracing SDK is found."""
    code = """
import time, opentelemetry.trace
from manor_mcp_interceptors import MCPTokenProvider, Settings, get_token
from manor_mcp_interceptors._telemetry import otel
clock = __import__("manor_mcp_interceptors.testing").testing.FakeClock()
MCPTokenProvider.configure(settings=Settings(secret="x" * 32), clock=clock)
get_token()
print(otel.annotate)
import opentelemetry.sdk.trace
clock.advance(1)
get_token()
print(otel.annotate is None)
"""
    assert run(code) == "None\nFalse\n"


def test_an_opentelemetry_that_does_not_work_breaks_no_call() -> None:
    """Half an installation, another library's stub: the call goes on, with its token."""
    code = """
import sys, types
sys.modules["opentelemetry.metrics"] = types.ModuleType("opentelemetry.metrics")
sys.modules["opentelemetry.trace"] = trace = types.ModuleType("opentelemetry.trace")
trace.get_current_span = lambda: 1 / 0
from manor_mcp_interceptors.client._bound_provider import BoundProvider
source = BoundProvider(None, None, required=False)
print(all(source.decision().token for _ in range(2)))
"""
    assert run(code) == "True\n"


def test_two_threads_that_meet_register_the_metrics_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one finds the module taken."""

    class TakenMeanwhile(set[str]):
        def remove(self, name: str) -> None:
            super().remove(name)
            super().remove(name)

    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    monkeypatch.setattr(otel, "not_imported_yet", TakenMeanwhile({"opentelemetry.metrics"}))
    otel.look(lambda: pytest.fail("the counters were read"))
