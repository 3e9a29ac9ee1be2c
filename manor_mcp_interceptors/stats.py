"""Counts of what happened so far: for a health page, a test, or an application's metrics.

Counting is always on. Each provider and each verifier has separate numbers; `process_stats` adds
them up. A forked child starts from zero. OpenTelemetry reports the process's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ._telemetry.counters import TOTALS, Counters
from .outcomes import Outcome

__all__ = ["ProcessStats", "ProviderStats", "VerifierStats", "process_stats"]

_OTHER_ISSUER: Final = "other_issuer"


@dataclass(frozen=True, slots=True)
class ProviderStats:
    """The numbers of one provider, or of all providers of this process."""

    decisions: Mapping[Outcome, int]
    """Decisions made, by outcome. All calls share a decision until the next recheck, so this
    counts decisions and not calls; a call that is refused by a gate that answers per call
    (``per_call``) or by `allowed_hosts` counts as one decision."""
    mints: int
    """New tokens: signed, or given by the token file or the token source."""
    refreshes: int
    """Times that a server refused the current token, which led to a recheck."""
    retries: int
    """Calls that were sent a second time, with a new token."""


@dataclass(frozen=True, slots=True)
class VerifierStats:
    """The numbers of one verifier, or of all verifiers of this process."""

    accepted: int
    """Tokens accepted after a full verification."""
    remembered: int
    """Tokens accepted because they had been verified before."""
    rejected: Mapping[str, int]
    """Calls refused, by the word of `TokenRejectedError.reason`."""
    by_key: Mapping[str, int]
    """Tokens accepted, the remembered ones too, by the key that signed them: ``current`` (or its
    key id, if one is set) and ``previous``."""
    observed: Mapping[str, int]
    """Calls without a valid token that observe mode has let through, by the same words."""
    other_issuers: int
    """Tokens of other issuers, on a verifier with ``other_issuers=True``. Not refused: another
    verifier may have accepted them."""


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """The sums over all providers and all verifiers of this process."""

    client: ProviderStats
    server: VerifierStats


def process_stats() -> ProcessStats:
    """Return the numbers of this process."""
    return ProcessStats(provider_stats(TOTALS), verifier_stats(TOTALS))


def provider_stats(counters: Counters) -> ProviderStats:
    """Return the numbers of the provider that `counters` belong to."""
    counts = counters.read()
    decisions = counters.words("decisions")
    return ProviderStats(
        {Outcome(word): count for word, count in decisions.items()},
        counts.get(("mints", "", ""), 0),
        counts.get(("refreshes", "", ""), 0),
        counts.get(("retries", "", ""), 0),
    )


def verifier_stats(counters: Counters) -> VerifierStats:
    """Return the numbers of the verifier that `counters` belong to."""
    results = counters.words("verifications")
    accepted, remembered = results.pop("accepted", 0), results.pop("remembered", 0)
    others = results.pop(_OTHER_ISSUER, 0)
    by_key, observed = counters.details("verifications"), counters.words("observed")
    return VerifierStats(accepted, remembered, results, by_key, observed, others)
