"""Verify an inbound token: the mirror image of what the client door mints."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from manor_mcp_interceptors.errors import SettingsError, TokenRejectedError
from manor_mcp_interceptors.protocols import Clock
from manor_mcp_interceptors.settings import Settings

from ._claims import VerifiedToken
from ._verification import Judge
from .reasons import Reason

if TYPE_CHECKING:
    from manor_mcp_interceptors.stats import VerifierStats

__all__ = ["Reason", "TokenVerifier", "VerifiedToken"]


class TokenVerifier(Judge):
    """Accepts exactly what the client door mints, and nothing else. Safe from any thread.

    Settings and secrets are looked at again every `Settings.recheck_seconds`, so a change is
    noticed within that time. A variable that is unset takes its secret away, and a previous
    secret's file that is deleted or emptied retires that one. The current secret's file leaves
    the last good secret in use, with a warning, when it is deleted or emptied: to take that one
    away, replace it. While there is no usable secret, every token is refused. An accepted token
    is remembered until its `exp`, or until settings or secrets change: to verify it again is a
    look-up.

    Refusals are counted and logged by reason, at most one line per reason and minute.
    """

    __slots__ = ()

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        leeway_seconds: float = 0.0,
        allowed_subjects: Iterable[str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Make a verifier that could accept a token now.

        Args:
            settings: None reads the environment, anew at each recheck.
            leeway_seconds: How long a token is accepted after its `exp` and before its `nbf`.
            allowed_subjects: The services that may call; None is any.
            clock: An object with ``time()`` and ``monotonic()``; None is the `time` module.

        Raises:
            SettingsError: A setting is wrong, or there is no usable secret.
        """
        if not 0 <= leeway_seconds < math.inf:
            raise SettingsError("leeway_seconds is not a number of seconds >= 0")
        if isinstance(allowed_subjects, str):
            raise SettingsError("allowed_subjects is one text: give a list of subjects")
        super().__init__(
            settings,
            leeway_seconds=leeway_seconds,
            allowed_subjects=allowed_subjects,
            clock=clock,
        )
        if self.problem is not None:
            raise self.problem

    @classmethod
    def from_env(
        cls,
        *,
        leeway_seconds: float = 0.0,
        allowed_subjects: Iterable[str] | None = None,
        clock: Clock | None = None,
    ) -> TokenVerifier:
        """Make a verifier from the environment; the same as one without `settings`.

        Raises:
            SettingsError: A variable is wrong, or there is no usable secret.
        """
        return cls(leeway_seconds=leeway_seconds, allowed_subjects=allowed_subjects, clock=clock)

    def verify(self, token: str) -> VerifiedToken:
        """Return the claims of `token`.

        Raises:
            TokenRejectedError: The token is not acceptable; its `reason` is a `Reason`, meant
                for logs. Tell the peer one phrase for all of them.
        """
        verdict = self.judge(token)
        del token  # a traceback that prints locals prints no token
        if isinstance(verdict, Reason):
            raise TokenRejectedError(verdict)
        return verdict

    def rejections(self) -> dict[str, int]:
        """Return how many calls were refused, by reason; a reason that never was is not there."""
        return dict(self.stats().rejected)

    def stats(self) -> VerifierStats:
        """Return what this verifier did so far, in numbers."""
        from manor_mcp_interceptors.stats import verifier_stats  # seldom asked for

        return verifier_stats(self.counters)
