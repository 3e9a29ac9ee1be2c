"""Check docs/alerts.rules.yml with promtool: python -m tests.telemetry.check_alerts.

A provider and a verifier run for a day and a half of a fake clock, with OpenTelemetry's Prometheus
exporter; what it exports every minute are the series that promtool runs the rules over. Needs
promtool, which is in Debian's package `prometheus`.
"""

from __future__ import annotations

import gc
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from manor_mcp_interceptors import MCPTokenProvider, Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors._keys.fingerprint import fingerprint
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate
from tests.support.key_pairs import key_pair, write_jwks

RULES = Path(__file__).parents[2] / "docs" / "alerts.rules.yml"
STRAY_SECRET = "a-stray-one--" + "4444444444" * 3
OLD, NEW, STRAY = map(fingerprint, (SECRET, OTHER_SECRET, STRAY_SECRET))
DAY = 24 * 60
TARGET = {"job": "search", "instance": "search-1"}

Series = dict[str, list[str]]
"""The values of each series, one a minute; ``_`` where there is none."""


def provider_of(settings: Settings, clock: FakeClock) -> MCPTokenProvider:
    return MCPTokenProvider(settings, gate=StaticGate(), clock=clock)


class Fleet:
    """A caller and a server, whose files change; one that has no secret, and one with another.

    Another server has public keys: that there are several is no rotation.
    """

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.folder = folder
        self.write(current=SECRET, previous="")
        settings = Settings(
            secret_file=folder / "current",
            previous_secret_file=folder / "previous",
            ttl_seconds=600,
        )
        self.provider = provider_of(settings, self.clock)
        self.verifier = TokenVerifier(settings, clock=self.clock)
        self.keys = [key_pair("ES256", number) for number in range(2)]
        jwks = write_jwks(folder / "jwks.json", *self.keys)
        self.by_keys = TokenVerifier(Settings(jwks_file=jwks), clock=self.clock)
        self.lost = provider_of(Settings(), self.clock)
        self.stray: MCPTokenProvider | None = None

    def write(self, **files: str) -> None:
        for name, content in files.items():
            (self.folder / name).write_text(content)

    def calls(self) -> None:
        """Make good calls, with the token of each moment."""
        for _ in range(10):
            self.verifier.verify(str(self.provider.token()))

    def refused_call(self) -> None:
        assert self.stray is not None
        with suppress(TokenRejectedError):
            self.verifier.verify(str(self.stray.token()))

    def call_without_token(self) -> None:
        self.lost.token()


@dataclass
class Run:
    """What happened so far, as Prometheus would have scraped it."""

    fleet: Fleet
    minutes: int = 0
    series: Series = field(default_factory=dict)

    def for_minutes(self, count: int, *events: Callable[[], object]) -> int:
        """Let `events` happen each minute, `count` times; return the minute that it is then."""
        for _ in range(count):
            for event in events:
                event()
            self.fleet.clock.advance(60)
            self._scrape()
        return self.minutes - 1

    def _scrape(self) -> None:
        for family in text_string_to_metric_families(generate_latest(REGISTRY).decode()):
            for sample in family.samples:
                if sample.name.startswith("manor_"):
                    values = self.series.setdefault(_name(sample), [])
                    values += ["_"] * (self.minutes - len(values)) + [f"{sample.value:g}"]
        self.minutes += 1


def _name(sample: Any) -> str:
    labels = ", ".join(f'{name}="{text}"' for name, text in {**sample.labels, **TARGET}.items())
    return f"{sample.name}{{{labels}}}"


def value(minute: int, query: str, **samples: float) -> dict[str, Any]:
    """Return the check that `query` has these results at that minute, by their labels."""
    expected = [{"labels": labels, "value": number} for labels, number in samples.items()]
    return {"expr": query, "eval_time": f"{minute}m", "exp_samples": expected}


def firing(minute: int, *names: str) -> dict[str, Any]:
    """Return the check that these alerts fire at that minute, and no other."""
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return value(minute, query, **{f'{{alertname="{name}"}}': 1 for name in names})


def processes(minute: int, role: str, **marks: float) -> dict[str, Any]:
    """Return the check how many processes have each secret, by its fingerprint, in that role."""
    query = f'mcp_auth:secrets:processes{{manor_mcp_auth_role="{role}"}}'
    labels = '{{__name__="mcp_auth:secrets:processes", manor_mcp_auth_role="{}", {}="{}"}}'
    name = "manor_mcp_auth_fingerprint"
    samples = {labels.format(role, name, mark): number for mark, number in marks.items()}
    return value(minute, query, **samples)


def history(run: Run) -> list[dict[str, Any]]:
    """Let a day and a half pass; return what the rules must say at the end of each part of it."""
    fleet, checks = run.fleet, []
    kids = {key.kid: 1 for key in fleet.keys}
    by_previous = 'sum(mcp_auth:accepted_by_key:rate5m{manor_mcp_auth_key="previous"}) > bool 0'
    stray = "mcp_auth:secrets:signed_but_not_accepted"
    now = run.for_minutes(20, fleet.calls)
    checks += [firing(now), processes(now, "signing", **{OLD: 1})]
    fleet.stray = provider_of(Settings(secret=STRAY_SECRET), fleet.clock)
    now = run.for_minutes(20, fleet.calls, fleet.refused_call)
    labels = f'{{__name__="{stray}", job="search", manor_mcp_auth_fingerprint="{STRAY}"}}'
    checks += [firing(now, "MCPAuthCallsRefused"), value(now, stray, **{labels: 1})]
    fleet.stray = None
    gc.collect()
    now = run.for_minutes(20, fleet.calls, fleet.call_without_token)
    checks += [firing(now, "MCPAuthCallsWithoutToken")]
    fleet.write(previous=f"{SECRET}\n{OTHER_SECRET}\n")  # step 1
    now = run.for_minutes(20, fleet.calls)
    checks += [firing(now), processes(now, "verifying", **{OLD: 1, NEW: 1}, **kids)]
    old = str(fleet.provider.token())
    fleet.write(current=OTHER_SECRET)  # step 2
    now = run.for_minutes(6, fleet.calls, lambda: fleet.verifier.verify(old))
    checks += [processes(now, "signing", **{NEW: 1}), value(now, by_previous, **{"{}": 1})]
    now = run.for_minutes(15, fleet.calls)
    checks += [firing(now), value(now, by_previous, **{"{}": 0})]
    now = run.for_minutes(DAY, fleet.calls)
    checks += [firing(now, "MCPAuthRotationUnfinished")]
    fleet.write(previous="")  # step 3
    now = run.for_minutes(10, fleet.calls)
    return [*checks, firing(now), processes(now, "verifying", **{NEW: 1}, **kids)]


def main() -> int:
    """Run promtool; return its exit status, or 1 if it is not installed."""
    if shutil.which("promtool") is None:
        sys.stdout.write("promtool is not installed: apt-get install prometheus\n")
        return 1
    logging.getLogger("manor_mcp_interceptors").setLevel(logging.CRITICAL)
    metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Fleet(Path(folder)))
        checks = history(run)
        series = [{"series": name, "values": " ".join(v)} for name, v in run.series.items()]
        test = {"interval": "1m", "input_series": series, "promql_expr_test": checks}
        file = Path(folder) / "test.yml"  # JSON is YAML
        file.write_text(
            json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]})
        )
        sys.stdout.write(f"{len(series)} series, {run.minutes} minutes, {len(checks)} checks\n")
        sys.stdout.flush()
        commands = (["check", "rules", str(RULES)], ["test", "rules", str(file)])
        return max(subprocess.run(["promtool", *c], check=False).returncode for c in commands)


if __name__ == "__main__":
    sys.exit(main())
