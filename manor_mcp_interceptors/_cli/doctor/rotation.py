"""The step of the rotation's runbook (docs/rotation.md) that this host is at."""

from __future__ import annotations

from typing import Final

from manor_mcp_interceptors._keys.verification_keys import VerificationKeys
from manor_mcp_interceptors.settings import Settings

from .checks import Check, State

NAME: Final = "rotation"

_FINDINGS: Final = {
    "1": "the current secret is {current}; {others} is accepted too",
    "2": "the current secret is {current}; {others} is still accepted",
    "1 or 2": "the current secret is {current}, {others} is accepted too: step 1 if that is new",
}
_FOLLOWING: Final = {
    "1": (
        "when every service that verifies is at step 1, write the new secret to the current file"
        " everywhere"
    ),
    "2": (
        "when every service is at step 2, and for one token lifetime ({lifetime} s) no token came"
        " with the previous key, empty the previous file everywhere"
    ),
    "1 or 2": "keep both in the previous file, the new one last: then the step is certain",
}
"""What to do next, and when."""


def check_rotation(keys: VerificationKeys, settings: Settings) -> Check:
    """Report the step, and what to do when every service has reached it.

    The previous file holds both secrets of a rotation, the new one last: so the step can be told
    from the files of one host, which has a current secret.
    """
    current, *rest = (key.fingerprint() for key in keys.secrets)
    others = ", ".join(rest)
    if not others:
        finding = f"step 0 of 3: complete, or not begun; {current} is the only secret here"
        return Check(NAME, State.OK, finding, "", _details("0", current, "none"))
    step = _step(keys)
    finding = _FINDINGS[step].format(current=current, others=others)
    following = _FOLLOWING[step].format(lifetime=settings.ttl_seconds)
    details = _details(step, current, others)
    return Check(NAME, State.NOTE, f"step {step} of 3: {finding}", following, details)


def _step(keys: VerificationKeys) -> str:
    current, secrets = keys.secrets[0].secret, [key.secret for key in keys.previous]
    if current not in secrets:
        return "1 or 2"
    return "2" if current == secrets[-1] else "1"


def _details(step: str, current: str, others: str) -> tuple[tuple[str, str], ...]:
    return ("step", step), ("current", current), ("also accepted", others)
