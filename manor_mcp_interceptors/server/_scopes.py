"""The scopes that a server requires, as they are given to a verifier or an adapter."""

from __future__ import annotations

from collections.abc import Iterable

from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.settings import is_scope


def required(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return `scopes`, each once.

    Raises:
        SettingsError: They are one text, or one of them is malformed.
    """
    if isinstance(scopes, str):
        raise SettingsError("required_scopes is one text: give a list of scopes")
    given = tuple(dict.fromkeys(scopes))
    for scope in given:
        if not is_scope(scope):
            raise SettingsError(f"required_scopes: {scope!r} is no scope (RFC 6749, section 3.3)")
    return given
