"""The results of the checks, as data for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum

Rows = Sequence[tuple[str, str]]
"""Names and values."""


class State(str, Enum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    """Nothing to judge: an extra that is not installed, a step that was not reached."""
    WARNING = "warning"
    """Calls work, but something should be changed."""
    FAILED = "failed"
    """Calls carry no token, or the server refuses it."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one step. No field ever holds a secret or a token."""

    name: str
    state: State
    finding: str
    fix: str = ""
    details: tuple[tuple[str, str], ...] = ()
    more: tuple[tuple[str, str], ...] = ()
    """Details that people see with ``--verbose`` only."""
    proves: str = ""
    """What this check proves, as the sentence that ends the report if no check failed."""

    @property
    def failed(self) -> bool:
        return self.state is State.FAILED


def cause(checks: Sequence[Check]) -> Check | None:
    """Return the check that explains a missing or refused token; None if no check failed.

    The checks stand in the order of the provider's decision, so the first failure is the cause.
    """
    return next((check for check in checks if check.failed), None)


def conclusion(checks: Sequence[Check]) -> str:
    """Return what the checks prove together; empty if they prove nothing."""
    return next((check.proves for check in reversed(checks) if check.proves), "")


def as_data(checks: Sequence[Check]) -> dict[str, object]:
    """Return the checks in the form that ``--json`` prints."""
    first = cause(checks)
    return {
        "ok": first is None,
        "cause": None if first is None else first.name,
        "conclusion": None if first is not None else conclusion(checks),
        "checks": [_check_as_data(check) for check in checks],
    }


def _check_as_data(check: Check) -> dict[str, object]:
    data = {**asdict(check), "state": check.state.value}
    del data["more"], data["proves"]
    return {**data, "details": dict(check.details + check.more)}
