"""OpenTelemetry, if the application uses it: the counters as metrics, the outcome on its span.

Nothing of OpenTelemetry is imported unless the application has imported it: without that, there
is no meter that could export and no span that could be current.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from .log import log
from .secrets_in_use import secrets_in_use

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation

Counts = Mapping[tuple[str, str, str], int]

OUTCOME: Final = "manor.mcp_auth.outcome"
"""Attribute of the metric of decisions and of the caller's span: a word of `Outcome`."""
RESULT: Final = "manor.mcp_auth.result"
"""Attribute of the metric of verifications: accepted, remembered or a reason to reject."""
AUDIENCE: Final = "manor.mcp_auth.audience"
"""Attribute of the metric of decisions: the audience of the token, ``other`` if there are many."""
KEY: Final = "manor.mcp_auth.key"
"""Attribute of accepted tokens: ``current``, ``previous`` or the id of the key that signed them."""
ERROR: Final = "error.type"
"""Attribute of what failed, by OpenTelemetry's conventions: the word of the outcome or reason."""
ROLE: Final = "manor.mcp_auth.role"
"""Attribute of the secrets in use: ``signing`` or ``verifying``."""
FINGERPRINT: Final = "manor.mcp_auth.fingerprint"
"""Attribute of the secrets in use: what `manor-mcp doctor` shows of them."""

SECRET_INFO: Final = "manor.mcp_auth.secret.info"  # noqa: S105 - a metric's name
"""The gauge of the secrets in use; its value is always 1."""
_GOOD: Final = frozenset({"", "ok", "flag_off", "accepted", "remembered", "other_issuer"})

METRICS: Final[Mapping[str, tuple[str, str, str, tuple[str, ...]]]] = {
    "decisions": (
        "manor.mcp_auth.decisions",
        "{decision}",
        "Decisions whether calls carry a token: one for each lease, not one for each call",
        (OUTCOME, AUDIENCE),
    ),
    "mints": ("manor.mcp_auth.mints", "{token}", "New tokens: signed, or given", ()),
    "refreshes": (
        "manor.mcp_auth.refreshes",
        "{refresh}",
        "Times that a server refused the current token, so that the lease ended",
        (),
    ),
    "retries": (
        "manor.mcp_auth.retries",
        "{request}",
        "Calls sent a second time, with a new token",
        (),
    ),
    "verifications": (
        "manor.mcp_auth.verifications",
        "{token}",
        "Inbound tokens verified, by result",
        (RESULT, KEY),
    ),
    "observed": (
        "manor.mcp_auth.observed",
        "{call}",
        "Inbound calls without a valid token that observe mode has let through, by reason",
        (RESULT,),
    ),
}
"""Each counter: its metric's name, unit and description, and the attributes that hold its word
and its detail."""

annotate: Callable[[str], None] | None = None
"""Puts the outcome on the current span; None as long as the application traces nothing."""

not_imported_yet: Final = {"opentelemetry.metrics", "opentelemetry.trace"}
"""The OpenTelemetry modules to look for: the application has not imported them so far."""


def look(totals: Callable[[], Counts]) -> None:
    """Start to use metrics and traces as soon as the application does. Raises nothing."""
    for name in tuple(not_imported_yet):
        if name not in sys.modules:
            continue
        try:
            if name == "opentelemetry.trace" and not _spans_may_record():
                continue
            not_imported_yet.remove(name)
            _export(totals) if name == "opentelemetry.metrics" else _trace()
        except KeyError:  # another thread was first
            continue
        except Exception:  # telemetry never breaks a call
            not_imported_yet.discard(name)
            log(logging.DEBUG, "OpenTelemetry is not used: %s", name, exc_info=True)


def _spans_may_record() -> bool:
    """Return whether any class of spans records.

    The API has none, and libraries that do not trace import it: looking for the current span at
    each call would be half of the cost of an adapter.
    """
    from opentelemetry.trace import NonRecordingSpan, Span

    return any(kind is not NonRecordingSpan for kind in Span.__subclasses__())


def _export(totals: Callable[[], Counts]) -> None:
    from opentelemetry.metrics import get_meter

    meter = get_meter("manor_mcp_interceptors", package_version())
    for counter, (name, unit, description, _) in METRICS.items():
        meter.create_observable_counter(
            name, [_callback(counter, totals)], unit=unit, description=description
        )
    meter.create_observable_gauge(
        SECRET_INFO,
        [_observe_secrets],
        description="The secrets that this process signs and verifies with, by fingerprint",
    )


def package_version() -> str:
    """Return the version of this package; empty for a copy in the application's own tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("manor-mcp-interceptors")
    except PackageNotFoundError:
        return ""


def _callback(
    counter: str, totals: Callable[[], Counts]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    names = METRICS[counter][3]

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation

        for (name, *words), count in totals().items():
            if name == counter:
                attributes = {key: word for key, word in zip(names, words, strict=False) if word}
                if words[0] not in _GOOD:
                    attributes[ERROR] = words[0]
                yield Observation(count, attributes)

    return observe


def _observe_secrets(_: CallbackOptions) -> Iterator[Observation]:
    from opentelemetry.metrics import Observation

    for role, fingerprint in secrets_in_use.read():
        yield Observation(1, {ROLE: role, FINGERPRINT: fingerprint})


def _trace() -> None:
    from opentelemetry.trace import get_current_span

    def put_on_span(outcome: str) -> None:
        try:
            span = get_current_span()
            if span.is_recording():
                span.set_attribute(OUTCOME, outcome)
        except Exception:
            _switch(None)  # it would fail at each call
            log(logging.DEBUG, "OpenTelemetry's spans take no attribute", exc_info=True)

    _switch(put_on_span)


def _switch(to: Callable[[str], None] | None) -> None:
    global annotate  # noqa: PLW0603 - one switch for the process, read on the hot path
    annotate = to
