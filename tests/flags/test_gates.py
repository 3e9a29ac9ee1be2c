"""The gates: what each reads, and what it makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Outcome,
    Settings,
    SettingsError,
    diagnose,
    get_token,
)
from manor_mcp_interceptors._flags.gates import EnvironmentGate, FlagQuestion, ManorGate
from tests.support import FLAG, SECRET, FakeClock, StaticGate

QUESTION = FlagQuestion(FLAG, "service-application", "iss", "aud")


@pytest.mark.parametrize(
    ("text", "enabled"),
    [
        *((word, True) for word in ("1", "true", "yes", "on", "TRUE", "On", " yes ")),
        *((word, False) for word in ("0", "false", "no", "off", "False", "OFF")),
    ],
)
@pytest.mark.parametrize("name", [FLAG, FLAG.upper()])
def test_a_variable_named_after_the_flag_switches_it(name: str, text: str, enabled: bool) -> None:
    """As it is or in upper case; and the string "false" is off."""
    answer = EnvironmentGate({name: text}).evaluate(QUESTION)
    assert answer.enabled is enabled
    assert name in answer.source


def test_nothing_set_means_off() -> None:
    """A rollout begins with nobody in it."""
    assert EnvironmentGate({}).evaluate(QUESTION).enabled is False


@pytest.mark.parametrize("text", ["", "maybe", "2", "truee", "y"])
def test_a_garbled_flag_gives_no_token_and_a_reason(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """It is neither on nor off: the operator is told the variable, the value and the form."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv(FLAG.upper(), text)
    assert get_token() is None
    status = diagnose()
    assert status.outcome is Outcome.INVALID_CONFIG
    assert f"{FLAG.upper()}={text!r}" in status.reason
    assert "1/true/yes/on" in status.reason


@pytest.fixture
def manor_flags(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Install a `manor.feature_flags` that answers from a dict."""
    answers: dict[str, object] = {}
    module = types.ModuleType("manor.feature_flags")
    module.is_enabled = answers.__getitem__  # type: ignore[attr-defined]
    package = types.ModuleType("manor")
    package.feature_flags = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "manor", package)
    monkeypatch.setitem(sys.modules, "manor.feature_flags", module)
    return answers


def test_manor_feature_flags_comes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, manor_flags: dict[str, object]
) -> None:
    """Where the package is installed, it decides."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv(FLAG.upper(), "off")
    manor_flags[FLAG] = True
    assert ManorGate.is_available()
    assert get_token() is not None
    assert diagnose().flag_source == "manor.feature_flags"


def test_a_package_that_fails_leaves_the_environments_answer(
    monkeypatch: pytest.MonkeyPatch, env_on: None, manor_flags: dict[str, object]
) -> None:
    """No answer has been known yet, so the environment's stands."""
    assert get_token() is not None  # the dict has no such key: KeyError
    assert "last known" in diagnose().flag_source


def test_without_the_package_there_is_no_manor_gate() -> None:
    """Nothing is imported to find that out."""
    assert not ManorGate.is_available()
    assert "manor" not in sys.modules


PACKAGES = {
    "neither": {},
    "a manor without flags": {"manor/__init__.py": "raise RuntimeError('boom')"},
    "flags that cannot be imported": {
        "manor/__init__.py": "raise RuntimeError('boom')",
        "manor/feature_flags.py": "",
    },
    "a manor that calls while it is imported": {
        "manor/__init__.py": "import manor_mcp_interceptors as m; m.get_token()",
        "manor/feature_flags.py": "def is_enabled(key): return True",
    },
    "a module in the place of the package": {"manor.py": "raise RuntimeError('boom')"},
}


@pytest.mark.parametrize("files", PACKAGES.values(), ids=PACKAGES)
def test_whatever_the_package_does_when_imported_a_call_goes_on(
    tmp_path: Path, files: dict[str, str]
) -> None:
    """It is not imported to find out whether it is there, nor on the caller's thread."""
    for name, code in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    code = """
import sys, threading
from manor_mcp_interceptors._flags.gates import ManorGate
print(ManorGate.is_available(), "manor" in sys.modules)
from manor_mcp_interceptors import get_token
called = threading.Thread(target=lambda: print(get_token() is not None), daemon=True)
called.start()
called.join(20)
"""
    environ = {**os.environ, "MCP_AUTH_SECRET": SECRET, FLAG.upper(): "on"}
    environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    found = "manor/feature_flags.py" in files
    assert done.stdout.split() == [str(found), "False", "True"]


def test_a_finder_that_raises_is_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finders are others' code."""

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name.startswith("manor"):
                raise RuntimeError("boom")

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert not ManorGate.is_available()


@pytest.mark.parametrize("answer", ["false", 1, None])
def test_only_a_bool_is_an_answer(
    manor_flags: dict[str, object], answer: object, env_on: None
) -> None:
    """``bool("false")`` is true: nothing is converted, the last known answer stands."""
    manor_flags[FLAG] = answer
    assert get_token() is not None
    assert "last known" in diagnose().flag_source


def test_a_gate_is_asked_for_the_configured_flag_and_subject(clock: FakeClock) -> None:
    """The subject is what a rollout targets."""
    gate = StaticGate()
    settings = Settings(secret=SECRET, feature_flag="f", subject="billing")
    assert MCPTokenProvider(settings, gate=gate, clock=clock).token()
    assert gate.asked == [("f", "billing")]


def test_a_gate_per_call_is_asked_at_every_call(clock: FakeClock, settings: Settings) -> None:
    """The answer depends on the call, so none is leased; the token is minted once."""

    class PerUser(StaticGate):
        per_call = True

    gate = PerUser()
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    first = provider.token()
    assert first is not None
    gate.on = False
    assert provider.token() is None
    gate.on = True
    assert provider.token() == first
    assert len(gate.asked) == 3


class UnspeakableError(Exception):
    """An error that raises when it is asked what it is about."""

    def __init__(self, then: BaseException) -> None:
        super().__init__()
        self.then = then

    def __str__(self) -> str:
        raise self.then


class BreakingGate(StaticGate):
    """A gate that is on, but for an error."""

    def __init__(self, error: Exception | None, *, blocking: bool) -> None:
        super().__init__()
        self.error = error
        self.blocking = blocking

    def is_enabled(self, key: str, *, subject: str) -> bool:
        if self.error is not None:
            raise self.error
        return super().is_enabled(key, subject=subject)


@pytest.mark.parametrize("blocking", [False, True])
def test_an_error_that_cannot_be_shown_is_a_failure_like_any_other(
    settings: Settings, clock: FakeClock, *, blocking: bool
) -> None:
    """No exception, and its type is told; the gate is asked again."""
    gate = BreakingGate(UnspeakableError(RuntimeError()), blocking=blocking)
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    assert provider.token() is None
    assert provider.explain().answer.problem == "UnspeakableError"
    gate.error = None
    clock.advance(2)
    assert provider.token() is not None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"percall": True}, "percall is no option; per_call is"),
        ({"perCall": False}, "perCall is no option; per_call is"),
        ({"blockin": False}, "blockin is no option; blocking is"),
        ({"per_call": "yes"}, "per_call must be a bool"),
        ({"watch": 1}, "watch must be a method"),
        ({"is_enabled": None}, "has no method is_enabled"),
    ],
)
def test_a_misspelt_option_of_a_gate_is_an_error(options: dict[str, Any], complaint: str) -> None:
    """It would silently change how the gate is asked."""
    gate: Any = type("Mine", (StaticGate,), options)()
    with pytest.raises(SettingsError, match=complaint):
        MCPTokenProvider.configure(gate=gate)


def test_a_gate_may_have_attributes_of_its_own() -> None:
    """Also ones whose names resemble an option."""

    class Mine(StaticGate):
        callers: tuple[str, ...] = ("ann",)
        watcher = None
        calls = 0
        block_list: tuple[str, ...] = ()

    MCPTokenProvider.configure(gate=Mine())


@pytest.mark.parametrize("variable", ["search-mcp-auth", "SEARCH-MCP-AUTH", "SEARCH_MCP_AUTH"])
def test_a_key_that_no_shell_can_export_has_a_variable_all_the_same(
    variable: str, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upper case, with an underscore for every character that a shell does not allow."""
    monkeypatch.setenv("MCP_AUTH_FEATURE_FLAG", "search-mcp-auth")
    assert diagnose().reason.endswith("(default: SEARCH_MCP_AUTH is not set)")
    monkeypatch.setenv(variable, "on")
    MCPTokenProvider.reset()
    assert get_token() is not None


@pytest.mark.parametrize("manor", ["missing", "a module", "a package"])
def test_an_applications_own_feature_flags_are_not_manors(
    env_on: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, manor: str
) -> None:
    """A top-level module of that name is asked nothing, imported or not."""
    (tmp_path / "feature_flags.py").write_text("def is_enabled(key): return False")
    monkeypatch.syspath_prepend(tmp_path)
    if manor == "a module":
        (tmp_path / "manor.py").touch()
    if manor == "a package":
        (tmp_path / "manor").mkdir()
    monkeypatch.setitem(sys.modules, "feature_flags", import_module("feature_flags"))
    assert not ManorGate.is_available()
    assert diagnose().flag_source == f"environment variable {FLAG.upper()}"
