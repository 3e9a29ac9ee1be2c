"""TokenVerifier compared with the one-line PyJWT check that services run today."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from tests.server.forging import claims, forge
from tests.support import AUDIENCE, OTHER_SECRET, SECRET, legacy_check


def accepted(token: str) -> bool:
    try:
        TokenVerifier(Settings(secret=SECRET)).verify(token)
    except TokenRejectedError:
        return False
    return True


def legacy_accepts(token: str) -> bool:
    try:
        legacy_check(token)
    except (jwt.PyJWTError, UnicodeError, TypeError):  # PyJWT 2.13 raises TypeError for a list
        return False
    return True


def token(header: dict[str, Any] | None = None, secret: str = SECRET, **changes: Any) -> str:
    return forge(claims(int(time.time()), **changes), header=header, secret=secret)


def now(seconds: float) -> float:
    return int(time.time()) + seconds


GOOD = {
    "as minted": lambda: token(),
    "audience in a list": lambda: token(aud=["other", AUDIENCE]),
    "another subject": lambda: token(sub="service-b"),
    "more claims": lambda: token(scope="a b", jti="1", nested={"a": [1, None]}),
    "kid": lambda: token({"alg": "HS256", "kid": "k1"}),
    "no typ": lambda: token({"alg": "HS256"}),
    "jku": lambda: token({"alg": "HS256", "jku": "https://127.0.0.1:9/"}),
    "exp just ahead": lambda: token(exp=now(30)),
    "exp with a fraction": lambda: token(exp=now(30.5)),
    "iat with a fraction": lambda: token(iat=now(-30.5)),
    "nbf passed": lambda: token(nbf=now(-1)),
    "not ASCII": lambda: token(name="Jürgen \U0001f600"),
}
BAD = {
    "another secret": lambda: token(secret=OTHER_SECRET),
    "another audience": lambda: token(aud="other-mcp"),
    "a list without this audience": lambda: token(aud=["other-mcp", "more-mcp"]),
    "no audience": lambda: token(aud=...),
    "an empty list": lambda: token(aud=[]),
    "a number in the list": lambda: token(aud=[AUDIENCE, 1]),
    "audience a number": lambda: token(aud=1),
    "expired": lambda: token(exp=now(-1)),
    "expired long ago": lambda: token(exp=1),
    "exp now": lambda: token(exp=now(0)),
    "exp no number": lambda: token(exp="soon"),
    "exp a list": lambda: token(exp=[now(60)]),
    "exp true": lambda: token(exp=True),
    "iat far ahead": lambda: token(iat=now(3600)),
    "iat no number": lambda: token(iat="lately"),
    "nbf ahead": lambda: token(nbf=now(3600)),
    "nbf no number": lambda: token(nbf="soon"),
    "subject a number": lambda: token(sub=1),
    "subject null": lambda: token(sub=None),
    "alg none": lambda: token({"alg": "none"}),
    "alg HS512": lambda: token({"alg": "HS512"}),
    "kid a number": lambda: token({"alg": "HS256", "kid": 1}),
    "crit": lambda: token({"alg": "HS256", "crit": ["exp"], "exp": 1}),
    "no object": lambda: forge("[]"),
    "no JSON": lambda: forge("{"),
    "trailing garbage": lambda: token() + ".x",
    "two parts": lambda: token().rpartition(".")[0],
    "empty": lambda: "",
    "surrogate": lambda: "\ud800" + token(),
}
STRICTER = {
    "no exp": lambda: token(exp=...),
    "no iat": lambda: token(iat=...),
    "no sub": lambda: token(sub=...),
    "no iss": lambda: token(iss=...),
    "another issuer": lambda: token(iss="other"),
    "an empty subject": lambda: token(sub=""),
    "exp in quotes": lambda: token(exp=str(now(60))),
    "iat true": lambda: token(iat=True),
    "exp out of range": lambda: token(exp=10**300),
    "a claim twice": lambda: forge('{"exp":1,' + token_text()[1:]),
    "not a number": lambda: forge(token_text()[:-1] + ',"x":NaN}'),
    "padding": lambda: padded(token()),
    "b64 as critical": lambda: token({"alg": "HS256", "b64": True, "crit": ["b64"]}),
    "over 8 KiB": lambda: token(padding="x" * 8192),
}


def token_text() -> str:
    import json

    return json.dumps(claims(int(time.time())))


def padded(good: str) -> str:
    """Return the token with base64 padding, which a JWS does not have."""
    return good + "=" * (-len(good.rpartition(".")[2]) % 4)


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_both_accept(make: Any) -> None:
    """Accepted by the check in use today, and by TokenVerifier."""
    made = make()
    assert (legacy_accepts(made), accepted(made)) == (True, True)


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_both_refuse(make: Any) -> None:
    """Refused by the check in use today, and by TokenVerifier."""
    made = make()
    assert (legacy_accepts(made), accepted(made)) == (False, False)


@pytest.mark.parametrize("make", STRICTER.values(), ids=STRICTER)
def test_only_token_verifier_refuses(make: Any) -> None:
    """What the check in use today ignores or converts, TokenVerifier refuses."""
    made = make()
    assert (legacy_accepts(made), accepted(made)) == (True, False)


def test_only_token_verifier_accepts_a_clock_that_is_a_little_ahead() -> None:
    """The one difference in the other direction: an `iat` up to 60 seconds ahead."""
    made = token(iat=now(30))
    assert (legacy_accepts(made), accepted(made)) == (False, True)
