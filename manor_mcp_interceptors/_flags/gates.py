"""Gates: who answers whether the feature flag is on for this service."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.protocols import Gate

TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class FlagQuestion:
    """The flag's key and the caller for whom it is evaluated."""

    key: str
    subject: str
    issuer: str
    audience: str


@dataclass(frozen=True, slots=True)
class FlagAnswer:
    """On or off, and who answered."""

    enabled: bool
    source: str
    problem: str | None = None
    """Why this is not a fresh answer of the gate, in a few words; None if it is one."""
    invalid: bool = False
    """Whether the flag's value is malformed: there is no token then."""
    is_default: bool = False
    """Whether nobody has answered: no variable is set, and no other gate answers."""


class LibraryGate:
    """A gate as the library evaluates it. `evaluate` may raise and may hang."""

    blocking: bool = True
    per_call: bool = False
    name: str = ""
    """What an operator knows it by."""

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        """Answer, or raise."""
        raise NotImplementedError

    def caller(self) -> str | None:
        """Return whom the call is for, if the gate answers per call."""
        return None

    def watch(self, notify: Callable[[], None]) -> None:
        """Call `notify` when an answer may have changed; hold it weakly."""


class EnvironmentGate(LibraryGate):
    """Reads the variable named after the flag's key; see `variable_names`. Unset is off."""

    blocking = False
    name = "environment"

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Read from `environ`, by default the environment of the process."""
        self._environ = environ

    def is_enabled(self, key: str, *, subject: str) -> bool:  # noqa: ARG002 - the Protocol's
        """Return whether the variable is on.

        Raises:
            SettingsError: Its value is none of 1/true/yes/on and 0/false/no/off.
        """
        return self._read(key).enabled

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        """Answer as `is_enabled` does, naming the variable; a malformed value is an answer too."""
        try:
            return self._read(question.key)
        except SettingsError as error:
            return FlagAnswer(
                enabled=False, source=error.variable, problem=str(error), invalid=True
            )

    def _read(self, key: str) -> FlagAnswer:
        environ = os.environ if self._environ is None else self._environ
        names = variable_names(key)
        for name in names:
            text = environ.get(name)
            if text is None:
                continue
            word = text.strip().lower()
            if word in TRUE_WORDS or word in FALSE_WORDS:
                return FlagAnswer(word in TRUE_WORDS, f"environment variable {name}")
            message = f"{name}={text[:80]!r} is not 1/true/yes/on or 0/false/no/off"
            raise SettingsError(message, variable=name)
        source = f"default: {names[-1]} is not set"
        return FlagAnswer(enabled=False, source=source, is_default=True)


@lru_cache(maxsize=64)
def variable_names(key: str) -> tuple[str, ...]:
    """Return the variables that may hold the flag `key`, in the order in which they are read.

    The key as it is, in upper case, and in upper case with ``_`` for every character that a
    shell does not allow in a name. The last one can be exported by any shell.
    """
    exportable = re.sub(r"\W|^[0-9]", "_", key.upper(), flags=re.ASCII)
    return tuple(dict.fromkeys((key, key.upper(), exportable)))


class ManorGate(LibraryGate):
    """Asks ``manor.feature_flags.is_enabled(key)``, if that package is installed."""

    name = "manor.feature_flags"

    @staticmethod
    def is_available() -> bool:
        """Return whether the package can be found, without importing it or `manor`."""
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
        from manor import feature_flags  # only if it is installed

        return bool_or_error(feature_flags.is_enabled(key))

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        """Ask the package."""
        return FlagAnswer(self.is_enabled(question.key, subject=question.subject), self.name)


class _GateAdapter(LibraryGate):
    """An application's own `Gate`."""

    def __init__(self, gate: Gate) -> None:
        _check_options(gate)
        self._gate = gate
        self.name: str = type(gate).__name__
        self.blocking: bool = getattr(gate, "blocking", True)
        self.per_call: bool = getattr(gate, "per_call", False)

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        answer = self._gate.is_enabled(question.key, subject=question.subject)
        return FlagAnswer(bool_or_error(answer), self.name)

    def caller(self) -> str | None:
        caller: Callable[[], str | None] | None = getattr(self._gate, "caller", None)
        return None if caller is None else caller()

    def watch(self, notify: Callable[[], None]) -> None:
        watch: Callable[[Callable[[], None]], None] | None = getattr(self._gate, "watch", None)
        if watch is not None:
            watch(notify)


def adapt(gate: Gate) -> LibraryGate:
    """Return `gate` in the form that is evaluated.

    Raises:
        SettingsError: It has no `is_enabled`, or an option that is misspelt or of the wrong type.
    """
    return gate if isinstance(gate, LibraryGate) else _GateAdapter(gate)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


_OPTIONS: Final[Mapping[str, Callable[[object], bool]]] = {
    "blocking": _is_bool,
    "per_call": _is_bool,
    "caller": callable,
    "watch": callable,
}


def _check_options(gate: Gate) -> None:
    kind = type(gate).__name__
    if not callable(getattr(gate, "is_enabled", None)):
        raise SettingsError(f"gate: {kind} has no method is_enabled(key, *, subject) -> bool")
    for option, fits in _OPTIONS.items():
        form = "a bool" if fits is _is_bool else "a method"
        if not fits(getattr(gate, option, None)) and getattr(gate, option, None) is not None:
            raise SettingsError(f"gate: {kind}.{option} must be {form}")
        for name in dir(gate):
            if _is_misspelt(name, option) and fits(getattr(gate, name)):
                raise SettingsError(f"gate: {kind}.{name} is no option; {option} is ({form})")


def _is_misspelt(name: str, option: str) -> bool:
    """Return whether `name` is close to `option`, as ``percall`` and ``blockin`` are."""
    if name in _OPTIONS or name.startswith("_"):
        return False
    from difflib import SequenceMatcher  # 3 ms, and only for a gate of the application

    return SequenceMatcher(None, name.lower(), option).ratio() > 0.86  # noqa: PLR2004


def bool_or_error(answer: object) -> bool:
    """Return `answer` if it is a bool: ``bool("false")`` is true, so nothing is converted."""
    if not isinstance(answer, bool):
        raise TypeError(f"the gate answered {type(answer).__name__}, not bool")
    return answer
