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
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwk, jwt
from joserfc.errors import JoseError

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.private_key import PrivateKey
from manor_mcp_interceptors._keys.shared_secret import SharedSecret
from manor_mcp_interceptors._keys.tokens import mint
from tests.server.forging import claims
from tests.support import AUDIENCE, OTHER_SECRET, SECRET
from tests.support.key_pairs import ALGORITHMS, key_pair

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


class Keys:
    """Private keys of this library, and what it accepts by the public keys of others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def token(self, algorithm: str, number: int = 1) -> tuple[str, dict[str, Any]]:
        """Return a token of this library, and the JWK set that verifies it."""
        file = self._folder / "key.pem"
        file.write_text(key_pair(algorithm, number).pem())
        settings = Settings(private_key_file=file, subject="service-a")
        key = KeySource().signing_key(settings)
        assert isinstance(key, PrivateKey)
        return mint(settings, key, time.time()).value, {"keys": [key.public_jwk()]}

    def accept(self, token: str, jwks: dict[str, Any]) -> str:
        """Return the subject of a token by a key of the set."""
        file = self._folder / "jwks"
        file.write_text(json.dumps(jwks))
        return TokenVerifier(Settings(jwks_file=file)).verify(token).subject


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


ALL_CLAIMS = ["iss", "aud", "sub", "iat", "exp"]
KIND = {"ES256": ("EC", "P-256"), "RS256": ("RSA", 2048), "EdDSA": ("OKP", "Ed25519")}
"""How joserfc and Authlib name what an algorithm needs."""

# PyJWT


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_pyjwt_with_keys(keys: Keys, algorithm: str) -> None:
    """It reads this library's JWK set, which reads its own; a signature by another key fails."""
    token, jwks = keys.token(algorithm)
    key = pyjwt.PyJWKSet.from_dict(jwks)[pyjwt.get_unverified_header(token)["kid"]]
    rules: dict[str, Any] = {"audience": AUDIENCE, "issuer": ISSUER, "algorithms": [algorithm]}
    options: Any = {"require": ALL_CLAIMS}
    assert pyjwt.decode(token, key, options=options, **rules)["sub"] == "service-a"
    theirs = key_pair(algorithm, 2)
    signed = pyjwt.encode(good(), theirs.private, algorithm, {"kid": theirs.kid})
    tool = pyjwt.get_algorithm_by_name(algorithm)
    jwk_of_theirs = {**tool.to_jwk(theirs.private.public_key(), as_dict=True), "kid": theirs.kid}
    assert keys.accept(signed, {"keys": [jwk_of_theirs]}) == "service-a"
    with pytest.raises(pyjwt.InvalidSignatureError):
        pyjwt.decode(keys.token(algorithm, 2)[0], key, options=options, **rules)


# joserfc


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # RFC 9864 renames it
def test_joserfc_with_keys(keys: Keys, algorithm: str) -> None:
    """It reads this library's JWK set, and this library reads that of a key that it made."""
    token, jwks = keys.token(algorithm)
    ours = jwk.KeySet.import_key_set(jwks)  # type: ignore[arg-type]
    assert jwt.decode(token, ours, algorithms=[algorithm]).claims["sub"] == "service-a"
    made = jwk.KeySet.generate_key_set(*KIND[algorithm], count=1)  # type: ignore[arg-type]
    (theirs,) = made.keys
    head = {"alg": algorithm, "kid": theirs.kid}
    signed = jwt.encode(head, good(), theirs, algorithms=[algorithm])
    assert theirs.kid == theirs.thumbprint()
    assert keys.accept(signed, dict(made.as_dict(private=False))) == "service-a"
    with pytest.raises(JoseError):
        jwt.decode(signed, ours, algorithms=[algorithm])


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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.filterwarnings("ignore:authlib.jose module is deprecated")
def test_authlib_with_keys(keys: Keys, algorithm: str) -> None:
    """It reads this library's JWK set, and this library reads that of a key that it made."""
    from authlib.jose import JsonWebKey, JsonWebToken
    from authlib.jose.errors import JoseError as AuthlibError

    tool, (token, jwks) = JsonWebToken([algorithm]), keys.token(algorithm)
    ours = JsonWebKey.import_key_set(jwks)
    assert tool.decode(token, ours)["sub"] == "service-a"
    kind, form = KIND[algorithm]
    theirs = JsonWebKey.generate_key(kind, form, is_private=True)
    public = theirs.as_dict(is_private=False, kid=theirs.thumbprint())
    head = {"alg": algorithm, "kid": theirs.thumbprint()}
    signed = tool.encode(head, good(), theirs).decode()
    assert keys.accept(signed, {"keys": [public]}) == "service-a"
    with pytest.raises((AuthlibError, ValueError)):
        tool.decode(signed, ours)


@pytest.mark.parametrize("number", [379, 43], ids=["x", "y"])
@pytest.mark.filterwarnings("ignore:authlib.jose module is deprecated")
def test_authlib_leaves_out_zeros(keys: Keys, number: int) -> None:
    """One P-256 key of 128 has a coordinate that begins with some; such a key is used as well."""
    from authlib.jose import ECKey, JsonWebToken

    theirs = ECKey.import_key(ec.derive_private_key(number, ec.SECP256R1()))
    public = theirs.as_dict(is_private=False, kid="authlib")
    assert {len(public["x"]), len(public["y"])} == {42, 43}
    head = {"alg": "ES256", "kid": "authlib"}
    signed = JsonWebToken(["ES256"]).encode(head, good(), theirs).decode()
    assert keys.accept(signed, {"keys": [public]}) == "service-a"


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

KEYS_SCRIPT = """
import * as jose from "jose";
const { token, jwks, algorithm, claims, issuer, audience } = JSON.parse(process.argv[2]);
const requiredClaims = ["iss", "aud", "sub", "iat", "exp"];
const options = { algorithms: [algorithm], issuer, audience, requiredClaims };
const { publicKey, privateKey } = await jose.generateKeyPair(algorithm);
const jwk = await jose.exportJWK(publicKey);
const kid = await jose.calculateJwkThumbprint(jwk);
const verified = async (token, jwks) => {
  try {
    return (await jose.jwtVerify(token, jose.createLocalJWKSet(jwks), options)).payload.sub;
  } catch (error) {
    return error.code;
  }
};
const theirs = await new jose.SignJWT(claims)
  .setProtectedHeader({ alg: algorithm, kid }).sign(privateKey);
const theirJwks = { keys: [{ ...jwk, kid }] };
const subject = await verified(token, jwks);
const renamed = { keys: [{ ...jwk, kid: jwks.keys[0].kid }] };
console.log(JSON.stringify({ subject, forged: await verified(token, renamed), theirs, theirJwks }));
"""

Node = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Return a function that runs a script: jose verifies a token and signs another one."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js is not installed: jose was not tried")
    folder = tmp_path_factory.mktemp("jose")
    install = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "jose@6"]
    done = _run(install, folder)
    if done is None or done.returncode != 0:
        pytest.skip("npm could not install jose, which was not tried")

    def exchange(script: str, **told: Any) -> dict[str, Any]:
        (folder / "exchange.mjs").write_text(script)
        told |= {"claims": good(), "issuer": ISSUER, "audience": AUDIENCE}
        done = _run(["node", "exchange.mjs", json.dumps(told)], folder)
        assert done is not None
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
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
    answer = node(SCRIPT, token=minted(kid), secret=SECRET, header=header(kid))
    assert answer["subject"] == "service-a"
    assert accepted_here(answer["theirs"]) == "service-a"

    answer = node(SCRIPT, token=minted(kid), secret=OTHER_SECRET, header=header(kid))
    assert answer["subject"] == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
    with pytest.raises(TokenRejectedError, match="signature"):
        accepted_here(answer["theirs"])


@pytest.mark.slow
@pytest.mark.prints_token("the other process returns it on standard output")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_jose_of_nodejs_with_keys(keys: Keys, algorithm: str, node: Node) -> None:
    """It reads this library's JWK set, and this library reads that of a key that it made."""
    token, jwks = keys.token(algorithm)
    answer = node(KEYS_SCRIPT, token=token, jwks=jwks, algorithm=algorithm)
    assert answer["subject"] == "service-a"
    assert answer["forged"] == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
    assert keys.accept(answer["theirs"], answer["theirJwks"]) == "service-a"
