"""What happened so far, in numbers: for a health page, a test, or metrics of your own.

Counting is always on. The numbers of a provider or a verifier are its own; `process_stats` adds
up all of them. A forked child starts from zero. OpenTelemetry sees the process's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ._telemetry.counters import TOTALS, Counters
from .outcomes import Outcome

__all__ = ["ProcessStats", "ProviderStats", "VerifierStats", "process_stats"]


@dataclass(frozen=True, slots=True)
class ProviderStats:
    """What one provider did, or all of this process."""

    decisions: Mapping[Outcome, int]
    """Decisions made, by outcome. A decision is leased to all calls until it is due to be looked
    at again, so this counts leases and not calls; a call that is refused by its own flag's answer
    (``per_call``) or by `allowed_hosts` is a decision of its own."""
    mints: int
    """Tokens signed."""
    refreshes: int
    """Times that a server refused the current token, so that it was looked at again."""
    retries: int
    """Calls that were sent a second time, with a new token."""


@dataclass(frozen=True, slots=True)
class VerifierStats:
    """What one verifier did, or all of this process."""

    accepted: int
    """Tokens verified in full, and found good."""
    remembered: int
    """Tokens found good because they had been verified before."""
    rejected: Mapping[str, int]
    """Tokens refused, by the reason that `TokenRejectedError.reason` tells."""


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """The sums over all providers and all verifiers of this process."""

    client: ProviderStats
    server: VerifierStats


def process_stats() -> ProcessStats:
    """Return the numbers of this process."""
    return ProcessStats(provider_stats(TOTALS), verifier_stats(TOTALS))


def provider_stats(counters: Counters) -> ProviderStats:
    """Return what `counters` hold of a provider's numbers."""
    counts = counters.read()
    decisions = counters.words("decisions")
    return ProviderStats(
        {Outcome(word): count for word, count in decisions.items()},
        counts.get(("mints", ""), 0),
        counts.get(("refreshes", ""), 0),
        counts.get(("retries", ""), 0),
    )


def verifier_stats(counters: Counters) -> VerifierStats:
    """Return what `counters` hold of a verifier's numbers."""
    results = counters.words("verifications")
    accepted, remembered = results.pop("accepted", 0), results.pop("remembered", 0)
    return VerifierStats(accepted, remembered, results)
