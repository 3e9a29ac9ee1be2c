"""What a check comes to: data, which the command line shows to people and to machines."""

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
    """Calls work; somebody should look at it all the same."""
    FAILED = "failed"
    """Calls carry no token, or the server refuses it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One step of the decision. No field ever holds a secret or a token."""

    name: str
    state: State
    finding: str
    fix: str = ""
    details: tuple[tuple[str, str], ...] = ()
    more: tuple[tuple[str, str], ...] = ()
    """Details that people see with ``--verbose`` alone."""

    @property
    def failed(self) -> bool:
        return self.state is State.FAILED


def cause(checks: Sequence[Check]) -> Check | None:
    """Return the check that explains a missing or refused token; None where all is well.

    The checks stand in the order in which the provider asks its questions, so the first one that
    failed is what the provider stumbled on.
    """
    return next((check for check in checks if check.failed), None)


def as_data(checks: Sequence[Check]) -> dict[str, object]:
    """Return the checks in the form that ``--json`` prints."""
    first = cause(checks)
    return {
        "ok": first is None,
        "cause": None if first is None else first.name,
        "checks": [_check_as_data(check) for check in checks],
    }


def _check_as_data(check: Check) -> dict[str, object]:
    data = {**asdict(check), "state": check.state.value}
    del data["more"]
    return {**data, "details": dict(check.details + check.more)}
