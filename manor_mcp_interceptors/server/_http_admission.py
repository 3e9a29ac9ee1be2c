"""What the HTTP adapters share: decide on a call, and tell an observed one from a verified one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._observation import http_peer
from .reasons import Reason, Unverified
from .verifier import TokenVerifier, VerifiedToken, verification_of


async def admit_http(
    verifier: TokenVerifier | None,
    values: Sequence[str],
    scope: Mapping[str, Any],
    required_scopes: Sequence[str] = (),
) -> VerifiedToken | Reason | None:
    """Return the caller; why the call is refused; or None: observe mode lets it through.

    Args:
        verifier: None is the process-wide one.
        values: All ``Authorization`` values of the call.
        scope: The ASGI scope, for the peer that is logged.
        required_scopes: What the token must have in its `scope`, beside the verifier's.
    """
    verification = verification_of(verifier)
    result = await verification.admit_async(values, required_scopes)
    if isinstance(result, Unverified):
        verification.observe(result, lambda: http_peer(scope.get("client"), scope["headers"]))
        return None
    return result
