"""The checks of the settings: each variable, and names in the environment that are none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from manor_mcp_interceptors._decision.configuration import SettingsSnapshot
from manor_mcp_interceptors._keys.secret_file import shown_path
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.provider import MCPTokenProvider
from manor_mcp_interceptors.settings import VARIABLES, Settings, Variable

from .checks import Check, Rows, State

_PREFIX: Final = "MCP_AUTH_"
_DEFAULTS: Final = Settings()


def check_settings(given: Settings | None, view: SettingsSnapshot) -> list[Check]:
    """Show each setting that is set, and name every one that is wrong or not known."""
    if given is not None:
        return [_check_given(given, view)]
    return [_check_variables(view), *_check_unknown(view.question.key.upper())]


def _check_given(given: Settings, view: SettingsSnapshot) -> Check:
    rows: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for variable in VARIABLES:
        value = getattr(given, variable.field)
        is_default = value == getattr(_DEFAULTS, variable.field)
        rows[is_default].append((variable.name, _shown(variable, value)))
    return _settings(view, [], [*rows[0], ("source", "Settings(...) in code")], rows[1])


def _check_variables(view: SettingsSnapshot) -> Check:
    problems: list[str] = []
    rows: list[tuple[str, str]] = []
    defaults: list[tuple[str, str]] = []
    for variable in VARIABLES:
        try:
            one = Settings.from_env(_only(variable.name, "SERVICE_NAME"))
        except SettingsError as error:
            problems.append(str(error))
            rows.append((variable.name, "WRONG"))
            continue
        shown = _shown(variable, getattr(one, variable.field))
        if os.environ.get(variable.name, "").strip():
            rows.append((variable.name, shown))
        elif variable.field == "subject" and os.environ.get("SERVICE_NAME", "").strip():
            rows.append((variable.name, f"{shown} (from SERVICE_NAME)"))
        else:
            defaults.append((variable.name, f"{shown} (default)"))
    return _settings(view, problems, rows, defaults)


def _settings(view: SettingsSnapshot, problems: list[str], rows: Rows, defaults: Rows) -> Check:
    if view.error is not None and not problems:
        problems = [str(view.error)]
    count = sum(name.startswith(_PREFIX) for name, _ in rows)
    state, finding, fix = State.OK, f"{count} of {len(VARIABLES)} set", ""
    if problems:
        state, finding = State.FAILED, "; ".join(problems)
        fix = "set it in that form, or unset it for the default"
    elif warnings := view.warnings():
        state, finding = State.WARNING, "; ".join(warnings)
        fix = "choose a margin below the lifetime"
    return Check("settings", state, finding, fix, tuple(rows), tuple(defaults))


def _check_unknown(flag_variable: str) -> list[Check]:
    """Warn of each ``MCP_AUTH_*`` that nothing reads; its value may be a secret, so never show it.

    Args:
        flag_variable: The flag's own variable, whose name is the operator's choice.
    """
    known = {variable.name for variable in VARIABLES} | {flag_variable}
    prefixed = [name for name in sorted(os.environ) if name.upper().startswith(_PREFIX)]
    unknown = [name for name in prefixed if name not in known]
    if not unknown:
        return []
    finding = f"set, and nothing reads it: {', '.join(unknown)}"
    return [Check("environment", State.WARNING, finding, "; ".join(map(_rename, unknown)))]


def _rename(name: str) -> str:
    nearest = _nearest(name.upper().removeprefix(_PREFIX))
    if nearest is None:
        return f"unset {name}: no variable is called anything like it (--verbose lists them)"
    return f"rename {name} to {_PREFIX}{nearest}, or unset it"


def _nearest(rest: str) -> str | None:
    """Return what most likely was meant: a name that holds this one, or else is close to it."""
    rests = [variable.name.removeprefix(_PREFIX) for variable in VARIABLES]
    holding = [one for one in rests if rest in one]
    near = get_close_matches(rest, holding or rests, n=1, cutoff=0.0 if holding else 0.6)
    return near[0] if near else None


def _only(*names: str) -> Mapping[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _shown(variable: Variable, value: object) -> str:
    if value is None:
        return "none"
    if variable.secret:
        return "set, not shown"
    if variable.field.endswith("_file"):
        return shown_path(str(value))
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def usable_settings(provider: MCPTokenProvider) -> Settings:
    """Return the settings, without the variables that are wrong."""
    given: Settings | None = provider._setup.given[0]
    if given is not None:
        return given
    good: dict[str, str] = dict(_only("SERVICE_NAME"))
    for variable in VARIABLES:
        one = _only(variable.name)
        try:
            Settings.from_env(one)
        except SettingsError:
            continue
        good |= one
    return Settings.from_env(good)


def token_settings(provider: MCPTokenProvider) -> Settings:
    """Return the settings that the provider's token is made with."""
    settings = usable_settings(provider)
    if provider._audience is None:
        return settings
    return replace(settings, audience=provider._audience)
