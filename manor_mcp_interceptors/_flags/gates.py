"""Gates: is the feature flag on for this service?"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.protocols import Gate

if TYPE_CHECKING:
    from .openfeature_gate import OpenFeatureGate

__all__ = [
    "EnvironmentGate",
    "FlagAnswer",
    "FlagQuestion",
    "ManorGate",
]

TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off"})


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


class Backend:
    """A gate in the form that the provider asks. `evaluate` may raise and may hang."""

    blocking: bool = True
    per_call: bool = False
    name: str = ""
    """What an operator knows it by."""

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        """Answer, or raise."""
        raise NotImplementedError

    def caller(self) -> str | None:
        """Return whom the call is for, where the gate answers per call."""
        return None

    def watch(self, notify: Callable[[], None]) -> None:
        """Call `notify` when an answer may have changed; it is held by others, so weakly here."""


class EnvironmentGate(Backend):
    """Reads the variable named after the flag's key, as it is or in upper case. Unset is off."""

    blocking = False
    name = "environment"

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
                return _variable_says(name, enabled=word in TRUE_WORDS)
            message = f"{name}={text[:80]!r} is not 1/true/yes/on or 0/false/no/off"
            raise SettingsError(message, variable=name)
        return FlagAnswer(enabled=False, source=f"default: {key.upper()} is not set")


@lru_cache(maxsize=8)  # one object for the providers of all audiences
def _variable_says(name: str, *, enabled: bool) -> FlagAnswer:
    return FlagAnswer(enabled, f"environment variable {name}")


class ManorGate(Backend):
    """Asks ``manor.feature_flags.is_enabled(key)``, where that package is installed."""

    name = "manor.feature_flags"

    @staticmethod
    def is_available() -> bool:
        """Return whether the package can be found; neither it nor `manor` is imported for that."""
        if "manor.feature_flags" in sys.modules:
            return True
        from importlib.util import find_spec  # half a millisecond

        try:
            package = find_spec("manor")
            within = None if package is None else package.submodule_search_locations
            finders = () if within is None else sys.meta_path
            return any(finder.find_spec("manor.feature_flags", within) for finder in finders)
        except Exception:  # a module without a spec, or whatever another's finder raises
            return False

    def is_enabled(self, key: str, *, subject: str) -> bool:  # noqa: ARG002 - the Protocol's
        """Return the package's answer; it takes no subject."""
        from manor import feature_flags  # only where it is installed

        return bool_or_error(feature_flags.is_enabled(key))

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        """Ask the package."""
        enabled = self.is_enabled(question.key, subject=question.subject)
        return FlagAnswer(enabled, "manor.feature_flags")


class CustomBackend(Backend):
    """A `Gate` of the user's, in the form that the provider asks."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.name: str = type(gate).__name__
        self.blocking: bool = bool(getattr(gate, "blocking", True))
        self.per_call: bool = bool(getattr(gate, "per_call", False))

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        answer = self._gate.is_enabled(question.key, subject=question.subject)
        return FlagAnswer(bool_or_error(answer), type(self._gate).__name__)

    def caller(self) -> str | None:
        caller: Callable[[], str | None] | None = getattr(self._gate, "caller", None)
        return None if caller is None else caller()

    def watch(self, notify: Callable[[], None]) -> None:
        watch: Callable[[Callable[[], None]], None] | None = getattr(self._gate, "watch", None)
        if watch is not None:
            watch(notify)


def as_backend(gate: Gate) -> Backend:
    """Return `gate` itself where it is one of ours, else in a `CustomBackend`."""
    return gate if isinstance(gate, Backend) else CustomBackend(gate)


class DefaultBackends:
    """Chooses who answers when no gate was configured: the first backend that is there."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self._manor = ManorGate() if ManorGate.is_available() else None
        self._openfeature: OpenFeatureGate | None = None
        self._environment = EnvironmentGate()

    def choose(self) -> Backend:
        if self._manor is None and "manor.feature_flags" in sys.modules:
            self._manor = ManorGate()
        return self._manor or self._openfeature_gate() or self._environment

    def _openfeature_gate(self) -> Backend | None:
        # An application that never imported OpenFeature cannot have set a provider.
        if "openfeature.api" not in sys.modules:
            return None
        if self._openfeature is None:
            try:
                from .openfeature_gate import OpenFeatureGate
            except ImportError:  # another thread is still importing it, or it is too old
                return None
            gate = OpenFeatureGate()
            gate.watch(self._notify)
            self._openfeature = gate
        return self._openfeature if self._openfeature.has_provider() else None


def bool_or_error(answer: object) -> bool:
    """Return `answer` if it is a bool: ``bool("false")`` is true, so nothing is converted."""
    if not isinstance(answer, bool):
        raise TypeError(f"the gate answered {type(answer).__name__}, not bool")
    return answer
