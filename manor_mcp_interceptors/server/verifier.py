"""Verify an inbound token: accept exactly what the client half of this library mints."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from manor_mcp_interceptors._subjects import Subjects
from manor_mcp_interceptors._telemetry.log import log
from manor_mcp_interceptors.errors import SettingsError, TokenRejectedError
from manor_mcp_interceptors.protocols import Clock, Gate
from manor_mcp_interceptors.settings import Settings

from . import _process_wide
from ._claims import VerifiedToken
from ._verification import Verification
from .reasons import Reason

if TYPE_CHECKING:
    from manor_mcp_interceptors.stats import VerifierStats

__all__ = ["Reason", "TokenVerifier", "VerifiedToken"]


class TokenVerifier:
    """Accepts exactly what the client half mints, and nothing else. Safe from any thread.

    Settings and secrets are re-read every `Settings.recheck_seconds`, so a change takes effect
    within that time. To take a secret away, unset its variable or replace it in its file. A file
    with the previous secret may also be deleted or emptied. If the file with the current secret is
    deleted or emptied, the last good secret stays in use, with a warning. While there is no usable
    secret, every token is refused. A verified token is remembered until its `exp`, or until
    settings or secrets change: to verify it again is one look-up.

    Refusals are counted and logged by reason, at most one line per reason and minute.

    A copy is the verifier itself. A pickle holds no secret and no token: without secrets in its
    settings, the unpickled verifier refuses every token, unless it reads the environment.
    """

    __slots__ = ("_verification",)

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        leeway_seconds: float = 0.0,
        allowed_subjects: Iterable[str] | None = None,
        other_issuers: bool = False,
        required_scopes: Iterable[str] = (),
        gate: Gate | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Make a verifier that could accept a token now.

        Args:
            settings: None reads the environment, again at each recheck.
            leeway_seconds: How long a token is accepted after its `exp` and before its `nbf`.
            allowed_subjects: The services that may call; None is `Settings.allowed_subjects`.
                A text that ends in ``:*`` or ``/*`` allows every subject that begins with what
                stands before the ``*``: ``system:serviceaccount:shop:*``,
                ``spiffe://example.org/shop/*``. Any other text allows the subject that is equal to
                it; a ``*`` elsewhere is an error.
            other_issuers: Whether the server accepts tokens of other issuers too, by other
                verifiers. A token that does not name the configured issuer is still not accepted
                here, but counts as `Reason.OTHER_ISSUER` and not as a refusal; it is not logged.
            gate: Who answers for the flag `Settings.enforcement_flag`; None is the same default
                as for callers. It must not answer per call.
            required_scopes: What every token must have in `scope`; an adapter may require more.
            clock: An object with ``time()`` and ``monotonic()``; None is the `time` module.

        Raises:
            SettingsError: A setting, a pattern or the gate is malformed, or no key is usable.
        """
        if not 0 <= leeway_seconds < math.inf:
            raise SettingsError("leeway_seconds is not a number of seconds >= 0")
        if isinstance(allowed_subjects, str):
            raise SettingsError("allowed_subjects is one text: give a list of subjects")
        subjects = None if allowed_subjects is None else tuple(allowed_subjects)
        try:
            Subjects.of(subjects or ())
        except ValueError as error:
            raise SettingsError(f"allowed_subjects: {error}") from None
        self._verification = Verification(
            settings,
            leeway_seconds=leeway_seconds,
            subjects=subjects,
            other_issuers=other_issuers,
            scopes=required_scopes,
            gate=gate,
            clock=clock,
        )
        if self._verification.problem is not None:
            raise self._verification.problem

    @classmethod
    def from_env(
        cls,
        *,
        leeway_seconds: float = 0.0,
        allowed_subjects: Iterable[str] | None = None,
        other_issuers: bool = False,
        required_scopes: Iterable[str] = (),
        gate: Gate | None = None,
        clock: Clock | None = None,
    ) -> TokenVerifier:
        """Make a verifier from the environment; the same as one without `settings`.

        Raises:
            SettingsError: A variable is wrong, there is no usable secret, or the gate is malformed.
        """
        return cls(
            leeway_seconds=leeway_seconds,
            allowed_subjects=allowed_subjects,
            other_issuers=other_issuers,
            required_scopes=required_scopes,
            gate=gate,
            clock=clock,
        )

    def verify(self, token: str) -> VerifiedToken:
        """Return the claims of `token`. Strict whatever `Settings.enforcement` says.

        Raises:
            TokenRejectedError: The token is not acceptable; its `reason` is a `Reason`, for logs
                only. Tell the client one message for all of them.
        """
        result = self._verification.verify_token(token)
        del token  # a traceback that prints locals prints no token
        if isinstance(result, VerifiedToken):
            return result
        raise TokenRejectedError(self._verification.refuse(result))

    def rejections(self) -> dict[str, int]:
        """Return how many calls were refused, by reason; only reasons that occurred."""
        return dict(self.stats().rejected)

    def stats(self) -> VerifierStats:
        """Return this verifier's counts since it was made."""
        from manor_mcp_interceptors.stats import verifier_stats  # rarely used

        return verifier_stats(self._verification.counters)

    def __copy__(self) -> TokenVerifier:
        return self

    def __deepcopy__(self, _: object) -> TokenVerifier:
        return self

    def __reduce__(self) -> tuple[Callable[..., TokenVerifier], tuple[object, ...]]:
        """Pickle the options only; the pickle of `Settings` leaves out its secrets."""
        made = self._verification
        options = {
            "leeway_seconds": made.leeway_seconds,
            "subjects": made.subjects,
            "other_issuers": made.other_issuers,
            "scopes": made.scopes,
            "gate": made.gate,
        }
        return _unpickle, (type(self), made.settings, options)


def _unpickle(
    kind: type[TokenVerifier], settings: Settings | None, options: dict[str, Any]
) -> TokenVerifier:
    """Return a verifier; without a secret it refuses every token instead of raising."""
    verifier = kind.__new__(kind)
    verifier._verification = Verification(settings, **options)
    return verifier


def verification_of(verifier: TokenVerifier | None) -> Verification:
    """Return the verification of `verifier`; for None the process-wide one.

    The process-wide one reads the environment. It is created without an error if there is no
    secret: it logs a warning and refuses every token until there is one.
    """
    if verifier is not None:
        return verifier._verification
    return _process_wide.current.verification(Verification)


def start_serving(verifier: TokenVerifier | None) -> None:
    """Log now, before the first call, what an operator must know: no secret, observe mode.

    For adapters that follow the mode. It may wait for the flag's first answer, for a second.
    """
    verification_of(verifier).is_enforced(max_wait=None)


def start_serving_strictly(verifier: TokenVerifier | None, adapter: str) -> None:
    """As `start_serving`, for an adapter that refuses calls whatever the mode."""
    if verification_of(verifier).may_observe:
        text = "MCP auth: %s refuses calls in observe mode too; see MCPAuthMiddleware"
        log(logging.WARNING, text, adapter)
