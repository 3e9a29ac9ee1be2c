"""What callers send, good and bad: one table for all servers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from manor_mcp_interceptors import Settings, TokenVerifier
from tests.server.forging import claims, forge
from tests.support import OTHER_SECRET, SECRET

REMOVED_SECRET = "a-third-one--" + "5555555555" * 3


def token(kid: str | None = None, secret: str = SECRET, age: int = 0, **changes: object) -> str:
    header = {"alg": "HS256", "typ": "JWT"} | ({} if kid is None else {"kid": kid})
    return forge(claims(int(time.time()) - age, **changes), secret=secret, header=header)


def verifier(*, previous: bool = True) -> TokenVerifier:
    """Return the verifier of the servers: one secret, and one that is being retired."""
    return TokenVerifier(
        Settings(secret=SECRET, key_id="k2", previous_secret=OTHER_SECRET if previous else None)
    )


@dataclass(frozen=True)
class Case:
    """The ``Authorization`` values of one call, and its result."""

    values: Callable[[], list[str]]
    reason: str | None
    """Why it is refused; None if it is accepted."""
    previous: bool = True

    @property
    def sends_token(self) -> bool:
        """Whether a refusal names an error, by RFC 6750."""
        return self.reason not in ("missing", "not_bearer")


CASES = {
    "good": Case(lambda: [f"Bearer {token('k2')}"], None),
    "good without kid": Case(lambda: [f"Bearer {token()}"], None),
    "bearer in lower case": Case(lambda: [f"bearer {token()}"], None),
    "previous secret": Case(lambda: [f"Bearer {token('k1', OTHER_SECRET)}"], None),
    "no header": Case(list, "missing"),
    "empty": Case(lambda: [""], "missing"),
    "scheme alone": Case(lambda: ["Bearer"], "not_bearer"),
    "Basic": Case(lambda: ["Basic dXNlcjpwYXNz"], "not_bearer"),
    "token without scheme": Case(lambda: [token()], "not_bearer"),
    "two good headers": Case(lambda: [f"Bearer {token()}"] * 2, "multiple"),
    "good and Basic": Case(lambda: [f"Bearer {token()}", "Basic dXNlcjpwYXNz"], "multiple"),
    "two in one": Case(lambda: [f"Bearer {token()}, Bearer {token()}"], "not_bearer"),
    "bad signature": Case(lambda: [f"Bearer {token()[:-8]}AAAAAAAA"], "signature"),
    "wrong audience": Case(lambda: [f"Bearer {token(aud='other-mcp')}"], "audience"),
    "expired": Case(lambda: [f"Bearer {token(age=3600)}"], "expired"),
    "removed secret": Case(lambda: [f"Bearer {token(secret=REMOVED_SECRET)}"], "signature"),
    "unknown kid": Case(lambda: [f"Bearer {token('k9')}"], "unknown_key", previous=False),
    "no token": Case(lambda: ["Bearer nonsense"], "malformed"),
}
SUBJECT = "service-a"
PHRASE = "invalid or missing bearer token"
