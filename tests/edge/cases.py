"""The table: each call, and what the library's own verifier makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes

from tests.server.forging import claims
from tests.support import AUDIENCE, OTHER_SECRET

from . import tokens
from .tokens import PREVIOUS_SECRET, ahead, by_key, hashed, raw, token, twice

Headers = list[tuple[str, str]]

CALLER: Final = "service-a"
"""The outcome of a call that reaches the service with this one name in X-MCP-Caller."""
REFUSED: Final = "401"
"""A call that does not reach the service. A number is the proxy's status, a word gRPC's."""
NOBODY: Final = "nobody"
"""A call that reaches the service without a name."""


@dataclass(frozen=True)
class Case:
    """A call, and its outcome by the library's own verifier."""

    name: str
    headers: Callable[[], Headers]
    outcome: str


def bearer(make: Callable[[], str], *others: tuple[str, str]) -> Callable[[], Headers]:
    return lambda: [("Authorization", f"Bearer {make()}"), *others]


def plain(*headers: tuple[str, str]) -> Callable[[], Headers]:
    return lambda: list(headers)


def good(name: str, make: Callable[[], str], *others: tuple[str, str], as_: str = CALLER) -> Case:
    return Case(name, bearer(make, *others), as_)


def bad(name: str, make: Callable[[], str], *others: tuple[str, str]) -> Case:
    return Case(name, bearer(make, *others), REFUSED)


def long_token(length: int) -> str:
    """Return a good token of about `length` characters."""
    return token(padding="x" * ((length - len(token())) * 3 // 4))


def claims_now() -> dict[str, Any]:
    return claims(int(time.time()))


SPOOFED: Final = ("X-MCP-Caller", "mallory")

UPGRADE: Final = (
    ("Connection", "Upgrade, HTTP2-Settings"),
    ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
)
"""After it a proxy would no longer see single requests."""

GOOD: Final = [
    good("current secret", token),
    good("previous secret", lambda: token(secret=PREVIOUS_SECRET)),
    Case("scheme in lower case", lambda: [("Authorization", f"bearer {token()}")], CALLER),
    Case("scheme in upper case", lambda: [("Authorization", f"BEARER {token()}")], CALLER),
    Case("two spaces after the scheme", lambda: [("Authorization", f"Bearer  {token()}")], CALLER),
    good("header without typ", lambda: token(header={"alg": "HS256"})),
    good("any kid", lambda: token(header={"alg": "HS256", "kid": "k"})),
    good("other claims", lambda: token(jti="1", nested={"aud": "x", "exp": 1})),
    good("audience list of one", lambda: token(aud=[AUDIENCE])),
    good("audience list, second", lambda: token(aud=["another", AUDIENCE])),
    good("expires in 3 s", lambda: token(exp=ahead(3))),
    good("exp with a fraction", lambda: token(exp=ahead(60) + 0.5)),
    good("iat 30 s ahead", lambda: token(iat=ahead(30))),
    good("nbf is now", lambda: token(nbf=ahead(0))),
    good("subject with a space", lambda: token(sub="service a"), as_="service a"),
    good("subject of signs", lambda: token(sub="a\"\\;{}$x%[n]'#"), as_="a\"\\;{}$x%[n]'#"),
    good(
        "scope",
        lambda: token(scope="search:read search:write"),
        as_="service-a (search:read search:write)",
    ),
    good("scope of the wrong type", lambda: token(scope=["search:read"])),
    good("scope is a number", lambda: token(scope=7)),
    good("token of 6 KiB", lambda: long_token(6000)),
    good("ES256", lambda: by_key("es")),
    good("RS256", lambda: by_key("rs")),
    good("EdDSA", lambda: by_key("ed")),
    good("bound key", lambda: by_key("bound", sub="service-b"), as_="service-b"),
    good("bound key, prefix", lambda: by_key("bound", sub="team:search:x"), as_="team:search:x"),
    good("own X-MCP-Caller", token, SPOOFED),
    good("own X-MCP-Caller twice", token, SPOOFED, ("x-mcp-caller", "eve")),
    good("own X_MCP_Caller", token, ("X_MCP_Caller", "mallory"), ("X-MCP_Caller", "eve")),
    good("own X.MCP.Caller", token, ("X.MCP.Caller", "mallory"), ("X-MCP.Scope", "admin")),
    good("another Host", token, ("Host", "mcp.example")),
    good("upgrade to h2c", token, *UPGRADE),
    good("own X-MCP-Scope", token, ("X-MCP-Scope", "admin")),
    good("own X-MCP-Caller in Connection", token, SPOOFED, ("Connection", "close, X-MCP-Caller")),
]
"""Tokens that the library's own verifier accepts."""

NEVER: Final = [
    Case("no header", plain(), REFUSED),
    Case("no token but X-MCP-Caller", plain(SPOOFED), REFUSED),
    Case("empty header", plain(("Authorization", "")), REFUSED),
    Case("Basic", plain(("Authorization", "Basic YTpi")), REFUSED),
    Case("no scheme", lambda: [("Authorization", token())], REFUSED),
    Case("scheme alone", plain(("Authorization", "Bearer")), REFUSED),
    Case("scheme and a space", plain(("Authorization", "Bearer ")), REFUSED),
    Case("bytes over 127", plain(("Authorization", "Bearer \xff\xfe")), REFUSED),
    Case(
        "two headers, the first forged",
        lambda: [("Authorization", f"Bearer {token(secret=OTHER_SECRET)}"), *bearer(token)()],
        REFUSED,
    ),
    bad("not a JWT", lambda: "abc"),
    bad("no signature", lambda: token().rpartition(".")[0] + "."),
    bad("signature of one byte less", lambda: token()[:-2]),
    bad("forged", lambda: token(secret=OTHER_SECRET)),
    bad("forged, own X-MCP-Caller", lambda: token(secret=OTHER_SECRET), SPOOFED),
    bad("empty key", lambda: token(secret="")),
    bad("key of one space", lambda: token(secret=" ")),
    bad("changed payload", lambda: tokens.changed(token())),
    bad("alg none", tokens.unsigned),
    bad("alg none, signed", lambda: token(header={"alg": "none"})),
    bad("alg in lower case", lambda: token(header={"alg": "hs256"})),
    bad("alg missing", lambda: token(header={"typ": "JWT"})),
    bad("HS384", lambda: hashed("HS384")),
    bad("HS512", lambda: hashed("HS512")),
    bad("crit", lambda: token(header={"alg": "HS256", "crit": ["exp"], "exp": 1})),
    bad("crit b64", lambda: token(header={"alg": "HS256", "crit": ["b64"], "b64": True})),
    bad("crit with an escape", lambda: raw(claims_now(), '{"alg":"HS256","\\u0063rit":["x"]}')),
    bad("header is a list", lambda: raw("{}", "[]")),
    bad("payload is a list", lambda: raw("[]")),
    bad("payload is no JSON", lambda: raw("{")),
    bad("ES256, forged", lambda: by_key("other", kid="es")),
    bad("ES256, unknown kid", lambda: by_key("other")),
    bad("ES256, kid of RSA", lambda: by_key("es", kid="rs")),
    bad("ES256, expires this second", lambda: by_key("es", exp=ahead(0))),
    bad("ES256, changed payload", lambda: tokens.changed(by_key("es"))),
    bad("ES256, own X-MCP-Caller", lambda: by_key("other", kid="es"), SPOOFED),
    bad("RS256, forged", lambda: by_key("other", kid="rs", alg="RS256")),
    bad("EdDSA, forged", lambda: by_key("other", kid="ed", alg="EdDSA")),
    bad("HS256 by a public key", lambda: tokens.signed_with_a_public_key("es")),
    bad("bound key, other sub", lambda: by_key("bound")),
    bad("bound key, prefix alone", lambda: by_key("bound", sub="team:search:")),
    bad("expired an hour ago", lambda: token(iat=ahead(-7200), exp=ahead(-3600))),
    bad("expires this second", lambda: token(exp=ahead(0))),
    bad("exp missing", lambda: token(exp=...)),
    bad("exp is text", lambda: token(exp=str(ahead(60)))),
    bad("exp is null", lambda: token(exp=None)),
    bad("exp is true", lambda: token(exp=True)),
    bad("exp is 1e300", lambda: token(exp=1e300)),
    bad("exp of 20 digits", lambda: token(exp=10**19)),
    bad("exp is negative", lambda: token(exp=-1)),
]
"""What no configuration lets through: nothing, or something forged, unsigned or expired."""

BAD: Final = [
    Case("tab after the scheme", lambda: [("Authorization", f"Bearer\t{token()}")], REFUSED),
    Case("text after the token", lambda: [("Authorization", f"Bearer {token()} x")], REFUSED),
    Case("two headers", lambda: [("Authorization", f"Bearer {token()}")] * 2, REFUSED),
    Case(
        "two in one header",
        lambda: [("Authorization", f"Bearer {token()}, Bearer {token()}")],
        REFUSED,
    ),
    bad("three dots", lambda: token() + ".x"),
    bad("signature in another spelling", tokens.other_spelling),
    bad("signature with padding", lambda: token() + "="),
    bad("iat missing", lambda: token(iat=...)),
    bad("iat is text", lambda: token(iat=str(ahead(-5)))),
    bad("iat 90 s ahead", lambda: token(iat=ahead(90))),
    bad("nbf 30 s ahead", lambda: token(nbf=ahead(30))),
    bad("nbf is text", lambda: token(nbf=str(ahead(-5)))),
    bad("nbf is 1e300", lambda: token(nbf=1e300)),
    bad("nbf of 20 digits", lambda: token(nbf=10**19)),
    bad("iat of 20 digits", lambda: token(iat=10**19)),
    bad("iss missing", lambda: token(iss=...)),
    bad("another iss", lambda: token(iss="another")),
    bad("iss is a list", lambda: token(iss=["manor-internal"])),
    bad("aud missing", lambda: token(aud=...)),
    bad("another aud", lambda: token(aud="another")),
    bad("audience list without it", lambda: token(aud=["another"])),
    bad("audience list with a number", lambda: token(aud=[AUDIENCE, 1])),
    bad("aud is an object", lambda: token(aud={"0": AUDIENCE})),
    bad("sub missing", lambda: token(sub=...)),
    bad("sub is empty", lambda: token(sub="")),
    bad("sub is a number", lambda: token(sub=7)),
    bad("sub with CR LF", lambda: token(sub="a\r\nX-Evil: 1")),
    bad("sub with LF at its end", lambda: token(sub="service-a\n")),
    bad("iss with NUL at its end", lambda: token(iss="manor-internal\0")),
    bad("sub with NUL", lambda: token(sub="a\0b")),
    bad("sub with a space at its end", lambda: token(sub="service-a ")),
    bad("sub not in ASCII", lambda: token(sub="sérvice")),
    bad("scope with a line end", lambda: token(scope="a\r\nX-Evil: 1")),
    bad("sub twice", lambda: twice("sub", "service-b", CALLER)),
    bad("exp twice", lambda: twice("exp", 1, ahead(60))),
    bad("exp twice, the good one first", lambda: twice("exp", ahead(60), 1)),
    bad("ES256, no kid", lambda: by_key("es", kid=None)),
    bad("RS512", lambda: by_key("rs", alg="RS512", hashed_by=hashes.SHA512())),
    bad("token of 9 KiB", lambda: long_token(9000)),
    bad("token of 100 KiB", lambda: long_token(100_000)),
]
"""What it refuses as well."""

HTTP: Final = [*GOOD, *NEVER, *BAD]


@dataclass(frozen=True)
class GrpcCase:
    """A gRPC call, and its outcome by the library's own verifier."""

    name: str
    kind: str
    """One of the four kinds of methods."""
    metadata: Callable[[], Headers]
    outcome: str


def grpc_bearer(make: Callable[[], str], *others: tuple[str, str]) -> Callable[[], Headers]:
    return lambda: [("authorization", f"Bearer {make()}"), *others]


def forged() -> str:
    return token(secret=OTHER_SECRET)


UNAUTHENTICATED: Final = "UNAUTHENTICATED"
KINDS: Final = ("Unary", "ServerStream", "ClientStream", "Bidi")
GRPC_SPOOFED: Final = ("x-mcp-caller", "mallory")

GRPC: Final = [
    *(GrpcCase(f"gRPC {kind}, current secret", kind, grpc_bearer(token), CALLER) for kind in KINDS),
    *(
        GrpcCase(f"gRPC {kind}, forged", kind, grpc_bearer(forged), UNAUTHENTICATED)
        for kind in KINDS
    ),
    *(GrpcCase(f"gRPC {kind}, no token", kind, plain(), UNAUTHENTICATED) for kind in KINDS),
    GrpcCase(
        "gRPC previous secret", "Unary", grpc_bearer(lambda: token(secret=PREVIOUS_SECRET)), CALLER
    ),
    GrpcCase("gRPC ES256", "Bidi", grpc_bearer(lambda: by_key("es")), CALLER),
    GrpcCase(
        "gRPC ES256, forged",
        "Unary",
        grpc_bearer(lambda: by_key("other", kid="es")),
        UNAUTHENTICATED,
    ),
    GrpcCase("gRPC empty key", "Unary", grpc_bearer(lambda: token(secret="")), UNAUTHENTICATED),
    GrpcCase("gRPC expired", "Bidi", grpc_bearer(lambda: token(exp=ahead(0))), UNAUTHENTICATED),
    GrpcCase("gRPC alg none", "Unary", grpc_bearer(tokens.unsigned), UNAUTHENTICATED),
    GrpcCase("gRPC own x-mcp-caller", "Unary", grpc_bearer(token, GRPC_SPOOFED), CALLER),
    GrpcCase("gRPC own x_mcp_caller", "Bidi", grpc_bearer(token, ("x_mcp_caller", "eve")), CALLER),
    GrpcCase(
        "gRPC own x-mcp-caller, forged", "Bidi", grpc_bearer(forged, GRPC_SPOOFED), UNAUTHENTICATED
    ),
    GrpcCase("gRPC two entries", "Unary", lambda: grpc_bearer(token)() * 2, UNAUTHENTICATED),
    GrpcCase(
        "gRPC another aud", "Unary", grpc_bearer(lambda: token(aud="another")), UNAUTHENTICATED
    ),
    GrpcCase("gRPC scope", "Unary", grpc_bearer(lambda: token(scope="a b")), "service-a (a b)"),
    GrpcCase(
        "gRPC sub with CR LF",
        "Unary",
        grpc_bearer(lambda: token(sub="a\r\nx-evil: 1")),
        UNAUTHENTICATED,
    ),
    GrpcCase(
        "gRPC token of 9 KiB", "Unary", grpc_bearer(lambda: long_token(9000)), UNAUTHENTICATED
    ),
]
