"""Other implementations of JWT: they accept tokens of this library, and it accepts theirs."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import authlib.deprecate  # type: ignore[import-untyped]  # noqa: F401 - it filters warnings
import pytest
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors._keys.shared_secret import SharedSecret
from manor_mcp_interceptors._keys.tokens import mint
from tests.server.forging import claims
from tests.support import AUDIENCE, OTHER_SECRET, SECRET

ISSUER = "manor-internal"
KIDS = (None, "k1")


def minted(kid: str | None = None, secret: str = SECRET) -> str:
    settings = Settings(secret=secret, key_id=kid, subject="service-a")
    return mint(settings, SharedSecret(secret, kid, "test"), time.time()).value


def accepted_here(token: str) -> str:
    return TokenVerifier(Settings(secret=SECRET)).verify(token).subject


def header(kid: str | None) -> dict[str, Any]:
    return {"alg": "HS256"} if kid is None else {"alg": "HS256", "kid": kid}


def good() -> dict[str, Any]:
    return claims(int(time.time()))


# joserfc


@pytest.mark.parametrize("kid", KIDS)
def test_joserfc(kid: str | None) -> None:
    """With its claims registry, all claims essential."""
    key = jwk.OctKey.import_key(SECRET, {} if kid is None else {"kid": kid})
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        sub={"essential": True, "value": "service-a"},
        exp={"essential": True},
        iat={"essential": True},
    )
    registry.validate(jwt.decode(minted(kid), key, algorithms=["HS256"]).claims)
    assert accepted_here(jwt.encode(header(kid), good(), key)) == "service-a"

    with pytest.raises(JoseError):
        jwt.decode(minted(kid, OTHER_SECRET), key, algorithms=["HS256"])
    other = jwk.OctKey.import_key(OTHER_SECRET)
    with pytest.raises(TokenRejectedError, match="signature"):
        accepted_here(jwt.encode(header(kid), good(), other))


# Authlib


@pytest.mark.parametrize("kid", KIDS)
@pytest.mark.filterwarnings("ignore:authlib.jose module is deprecated")
def test_authlib(kid: str | None) -> None:
    """With its claims options, all claims essential."""
    from authlib.jose import JsonWebToken  # type: ignore[import-untyped]
    from authlib.jose.errors import BadSignatureError  # type: ignore[import-untyped]

    tool = JsonWebToken(["HS256"])
    options = {
        "iss": {"essential": True, "value": ISSUER},
        "aud": {"essential": True, "value": AUDIENCE},
        "sub": {"essential": True},
        "exp": {"essential": True},
        "iat": {"essential": True},
    }
    tool.decode(minted(kid), SECRET, claims_options=options).validate()
    assert accepted_here(tool.encode(header(kid), good(), SECRET).decode()) == "service-a"

    with pytest.raises(BadSignatureError):
        tool.decode(minted(kid, OTHER_SECRET), SECRET)
    with pytest.raises(TokenRejectedError, match="signature"):
        accepted_here(tool.encode(header(kid), good(), OTHER_SECRET).decode())


# Node.js: jose, which is what the TypeScript SDK's servers verify with

SCRIPT = """
import { jwtVerify, SignJWT } from "jose";
const { secret, token, header, claims, issuer, audience } = JSON.parse(process.argv[2]);
const key = new TextEncoder().encode(secret);
const requiredClaims = ["iss", "aud", "sub", "iat", "exp"];
const options = { algorithms: ["HS256"], issuer, audience, requiredClaims };
let subject = null;
try {
  subject = (await jwtVerify(token, key, options)).payload.sub;
} catch (error) {
  subject = error.code;
}
const theirs = await new SignJWT(claims).setProtectedHeader(header).sign(key);
console.log(JSON.stringify({ subject, theirs }));
"""

Node = Callable[[str, str, str | None], dict[str, str]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Return a function: jose verifies the given token and signs another one."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js is not installed: jose was not tried")
    folder = tmp_path_factory.mktemp("jose")
    install = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "jose@6"]
    done = _run(install, folder)
    if done is None or done.returncode != 0:
        pytest.skip("npm could not install jose, which was not tried")
    (folder / "exchange.mjs").write_text(SCRIPT)

    def exchange(token: str, secret: str, kid: str | None) -> dict[str, str]:
        told = {
            "secret": secret,
            "token": token,
            "header": header(kid),
            "claims": good(),
            "issuer": ISSUER,
            "audience": AUDIENCE,
        }
        done = _run(["node", "exchange.mjs", json.dumps(told)], folder)
        assert done is not None
        assert done.returncode == 0, done.stderr
        answer: dict[str, str] = json.loads(done.stdout)
        return answer

    return exchange


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return None


@pytest.mark.slow
@pytest.mark.prints_token("the other process returns it on standard output")
@pytest.mark.parametrize("kid", KIDS)
def test_jose_of_nodejs(kid: str | None, node: Node) -> None:
    """With every claim required and the algorithm given."""
    answer = node(minted(kid), SECRET, kid)
    assert answer["subject"] == "service-a"
    assert accepted_here(answer["theirs"]) == "service-a"

    answer = node(minted(kid), OTHER_SECRET, kid)
    assert answer["subject"] == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
    with pytest.raises(TokenRejectedError, match="signature"):
        accepted_here(answer["theirs"])
