"""The errors of this library, grouped by who must act.

    MCPAuthError
    ├── SettingsError(ValueError)    a setting is wrong: fix the deployment
    ├── TokenUnavailableError        a call requires a token and there is none
    └── TokenRejectedError           an inbound token is refused: answer 401 / UNAUTHENTICATED

`get_token()` and the other module functions never raise these: they are for explicit construction,
for adapters with ``required=True`` and for servers. No message ever holds a secret or a token.
"""

from __future__ import annotations

from .outcomes import Outcome

__all__ = ["MCPAuthError", "SettingsError", "TokenRejectedError", "TokenUnavailableError"]


class MCPAuthError(Exception):
    """Base of every error that this library raises on purpose."""


class SettingsError(MCPAuthError, ValueError):
    """A setting is missing or wrong; the message names the variable, the form and the fix."""

    def __init__(
        self, message: str, *, variable: str = "", outcome: Outcome = Outcome.INVALID_CONFIG
    ) -> None:
        super().__init__(message)
        self.variable = variable
        """Name of the environment variable or `Settings` field at fault."""
        self.outcome = outcome
        """What the provider reports for it: `NOT_CONFIGURED` if a value is missing."""


class TokenUnavailableError(MCPAuthError):
    """An adapter has ``required=True`` and there is no token; nothing was sent."""

    def __init__(self, message: str, *, outcome: Outcome = Outcome.NOT_CONFIGURED) -> None:
        super().__init__(message)
        self.outcome = outcome
        """Why there is no token."""


class TokenRejectedError(MCPAuthError):
    """An inbound token is not acceptable.

    `reason` is a stable, machine-readable word for the log and for counters. The client gets one
    constant message and never the reason.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def import_problem(error: ImportError) -> str:
    """Return which module keeps PyJWT from being imported, and the fix if it is PyJWT itself.

    PyJWT imports `cryptography` if that is installed, which fails in a sub-interpreter; such an
    error has no `name`, so the module is the one whose import raised it.
    """
    if isinstance(error, ModuleNotFoundError) and error.name == "jwt":
        return "PyJWT is not installed (ModuleNotFoundError): pip install PyJWT"
    module, frame = error.name, error.__traceback__
    while frame is not None and error.name is None:
        module, frame = frame.tb_frame.f_globals.get("__name__"), frame.tb_next
    return f"PyJWT cannot be imported: the import of {module} failed ({type(error).__name__})"
