"""Gates: is the feature flag on for this service?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Protocol

from .errors import SettingsError

__all__ = ["EnvironmentGate", "FlagAnswer", "FlagQuestion", "Gate", "ManorGate"]

TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off"})


class Gate(Protocol):
    """What ``configure(gate=...)`` takes: any object that answers for one flag.

    Two optional attributes change how it is asked:

    ``per_call = True``: the answer depends on the call (a user, a request), so it is asked at
    every call, in the caller's own context variables, and no answer is leased.

    ``blocking = False``: a promise that answering does no I/O, so it is asked on the caller's
    thread. Otherwise a thread of ours asks, one question at a time, and callers wait for it
    briefly or go on with the last known answer.
    """

    def is_enabled(self, key: str, *, subject: str) -> bool:
        """Return whether flag `key` is on for `subject`, the service that makes the calls."""
        ...


@dataclass(frozen=True, slots=True)
class FlagQuestion:
    """The flag's key and whom it is asked for."""

    key: str
    subject: str
    issuer: str
    audience: str


@dataclass(frozen=True, slots=True)
class FlagAnswer:
    """On or off, and who said so."""

    enabled: bool
    source: str
    problem: str | None = None
    """Why this is not a fresh answer of the gate's, in a few words; None where it is."""
    invalid: bool = False
    """Whether the flag's own value has no known form: no token, and never by guessing."""


class Backend(Protocol):
    """A gate in the form that the provider asks. `evaluate` may raise and may hang."""

    @property
    def blocking(self) -> bool: ...
    @property
    def per_call(self) -> bool: ...
    def evaluate(self, question: FlagQuestion) -> FlagAnswer: ...


class EnvironmentGate:
    """Reads the variable named after the flag's key, as it is or in upper case. Unset is off."""

    blocking: Final = False
    per_call: Final = False

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Read from `environ`, by default the process's environment at each question."""
        self._environ = environ

    def is_enabled(self, key: str, *, subject: str) -> bool:  # noqa: ARG002 - the Protocol's
        """Return whether the variable says on.

        Raises:
            SettingsError: Its value is none of 1/true/yes/on and 0/false/no/off.
        """
        return self._read(key).enabled

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        """Answer as `is_enabled` does, naming the variable; a garbled value is an answer too."""
        try:
            return self._read(question.key)
        except SettingsError as error:
            return FlagAnswer(
                enabled=False, source=error.variable, problem=str(error), invalid=True
            )

    def _read(self, key: str) -> FlagAnswer:
        environ = os.environ if self._environ is None else self._environ
        for name in (key, key.upper()):
            text = environ.get(name)
            if text is None:
                continue
            word = text.strip().lower()
            if word in TRUE_WORDS or word in FALSE_WORDS:
                return FlagAnswer(word in TRUE_WORDS, f"environment variable {name}")
            message = f"{name}={text[:80]!r} is not 1/true/yes/on or 0/false/no/off"
            raise SettingsError(message, variable=name)
        return FlagAnswer(enabled=False, source="default: nothing is set")


class ManorGate:
    """Asks ``manor.feature_flags.is_enabled(key)``, where that package is installed."""

    blocking: Final = True
    per_call: Final = False

    @staticmethod
    def is_available() -> bool:
        """Return whether the package can be found; it is not imported for that."""
        if "manor.feature_flags" in sys.modules:
            return True
        try:
            return find_spec("manor.feature_flags") is not None
        except (ImportError, ValueError):  # no `manor` at all; a module without a spec
            return False

    def is_enabled(self, key: str, *, subject: str) -> bool:  # noqa: ARG002 - the Protocol's
        """Return the package's answer; it takes no subject."""
        from manor import feature_flags  # only where it is installed

        return bool_or_error(feature_flags.is_enabled(key))

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        """Ask the package."""
        enabled = self.is_enabled(question.key, subject=question.subject)
        return FlagAnswer(enabled, "manor.feature_flags")


class CustomBackend:
    """A `Gate` of the user's, in the form that the provider asks."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.blocking = bool(getattr(gate, "blocking", True))
        self.per_call = bool(getattr(gate, "per_call", False))

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        answer = self._gate.is_enabled(question.key, subject=question.subject)
        return FlagAnswer(bool_or_error(answer), type(self._gate).__name__)


class DefaultBackends:
    """Chooses who answers when no gate was configured: the first backend that is there."""

    def __init__(self) -> None:
        self._manor = ManorGate() if ManorGate.is_available() else None
        self._environment = EnvironmentGate()

    def choose(self) -> Backend:
        if self._manor is None and "manor.feature_flags" in sys.modules:
            self._manor = ManorGate()
        return self._manor or self._environment


def bool_or_error(answer: object) -> bool:
    """Return `answer` if it is a bool: ``bool("false")`` is true, so nothing is converted."""
    if not isinstance(answer, bool):
        raise TypeError(f"the gate answered {type(answer).__name__}, not bool")
    return answer
