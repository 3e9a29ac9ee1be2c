"""The checks of the settings: every variable, and names in the environment that nothing reads."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import Final

from manor_mcp_interceptors._keys.watched_file import shown_path
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.settings import VARIABLES, Settings, Variable

from .checks import Check, Rows, State
from .host import Host, environment

_PREFIX: Final = "MCP_AUTH_"
_DEFAULTS: Final = Settings()


def check_settings(host: Host) -> list[Check]:
    """Show each setting that is set, and name every one that is wrong or unknown."""
    if host.given is not None:
        return [_check_given(host, host.given)]
    return [_check_variables(host), *_check_unknown(host)]


def _check_given(host: Host, given: Settings) -> Check:
    rows: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for variable in VARIABLES:
        value = getattr(given, variable.field)
        is_default = value == getattr(_DEFAULTS, variable.field)
        rows[is_default].append((variable.name, _shown(variable, value)))
    return _settings(host, [], [*rows[0], ("source", "Settings(...) in code")], rows[1])


def _check_variables(host: Host) -> Check:
    problems: list[str] = []
    rows: list[tuple[str, str]] = []
    defaults: list[tuple[str, str]] = []
    for variable in VARIABLES:
        try:
            one = Settings.from_env(environment(variable.name, "SERVICE_NAME"))
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
    return _settings(host, problems, rows, defaults)


def _settings(host: Host, problems: list[str], rows: Rows, defaults: Rows) -> Check:
    if host.problem is not None and not problems:
        problems = [str(host.problem)]
    count = sum(name.startswith(_PREFIX) for name, _ in rows)
    state, finding, fix = State.OK, f"{count} of {len(VARIABLES)} set", ""
    if problems:
        state, finding = State.FAILED, "; ".join(problems)
        fix = "set it in that form, or unset it for the default"
    elif host.warnings:
        state, finding = State.WARNING, "; ".join(host.warnings)
        fix = "choose a margin below the lifetime"
    return Check("settings", state, finding, fix, tuple(rows), tuple(defaults))


def _check_unknown(host: Host) -> list[Check]:
    """Warn of each ``MCP_AUTH_*`` that nothing reads; its value may be a secret, so hide it."""
    # The flag's variable may have any name: the operator chooses it.
    flag = {host.flag, host.flag.upper(), host.flag_variable}
    known = {variable.name for variable in VARIABLES} | flag
    prefixed = [name for name in sorted(os.environ) if name.upper().startswith(_PREFIX)]
    unknown = [name for name in prefixed if name not in known]
    if not unknown:
        return []
    finding = f"set, but nothing reads it: {', '.join(unknown)}"
    return [Check("environment", State.WARNING, finding, "; ".join(map(_rename, unknown)))]


def _rename(name: str) -> str:
    nearest = _nearest(name.upper().removeprefix(_PREFIX))
    if nearest is None:
        return f"unset {name}: no variable has a similar name (--verbose lists them)"
    return f"rename {name} to {_PREFIX}{nearest}, or unset it"


def _nearest(rest: str) -> str | None:
    """Return the name that was probably meant: one that contains `rest`, else a similar one."""
    rests = [variable.name.removeprefix(_PREFIX) for variable in VARIABLES]
    holding = [one for one in rests if rest in one]
    near = get_close_matches(rest, holding or rests, n=1, cutoff=0.0 if holding else 0.6)
    return near[0] if near else None


def _shown(variable: Variable, value: object) -> str:
    if value is None:
        return "none"
    if variable.secret:
        return "set, not shown"
    if variable.field.endswith("_file"):
        return shown_path(str(value))
    return ", ".join(value) if isinstance(value, tuple) else str(value)
