"""Who makes tokens in place of this library: a cluster, a SPIFFE server, Vault."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from manor_mcp_interceptors._keys.public_key import public_jwk
from tests.support import AUDIENCE

CLUSTER = "https://kubernetes.default.svc.cluster.local"
ACCOUNT = "system:serviceaccount:shop:basket"


@lru_cache
def new_key(algorithm: str) -> Any:
    """Return a private key; the same for each test of a process, since RSA keys are slow."""
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Issuer:
    """Signs tokens of any claims, and publishes its key."""

    algorithm: str = "RS256"
    claims: dict[str, Any] = field(default_factory=dict)
    """What each token has beside `aud`, `exp` and a number that makes it unlike the others."""

    def token(self, lifetime: float = 600, audience: Any = AUDIENCE, **claims: Any) -> str:
        """Return a token that expires `lifetime` seconds from now."""
        made = {"aud": audience, "exp": int(time.time() + lifetime), **self.claims, **claims}
        return jwt.encode(
            {name: value for name, value in made.items() if value is not None},
            new_key(self.algorithm),
            self.algorithm,
            {"kid": "the-key", "typ": None},
        )

    def jwk(self, **members: str) -> dict[str, str]:
        return {**public_jwk(new_key(self.algorithm).public_key()), "kid": "the-key", **members}

    def jwks(self, **members: str) -> str:
        return json.dumps({"keys": [self.jwk(**members)]})


def cluster(**claims: Any) -> Issuer:
    """Return one that makes service account tokens as `kube-apiserver` does."""
    now = int(time.time())
    account = {"namespace": "shop", "pod": {"name": "basket-0"}}
    made = {"iss": CLUSTER, "sub": ACCOUNT, "iat": now, "nbf": now, "kubernetes.io": account}
    return Issuer("RS256", {**made, **claims})


def spire(**claims: Any) -> Issuer:
    """Return one that makes JWT-SVIDs: without `iat`, and without an `iss` that is required."""
    made = {"iss": "https://spire.example.org", "sub": "spiffe://example.org/shop/basket"}
    return Issuer("ES256", {**made, **claims})


def spiffe_helper_bundle(issuer: Issuer, trust_domain: str = "example.org") -> str:
    """Return what `spiffe-helper` writes: the base64 of a JWK set for each trust domain."""
    bare = {name: value for name, value in issuer.jwk().items() if name not in ("use", "alg")}
    keys = json.dumps({"keys": [bare]})
    return json.dumps({trust_domain: base64.b64encode(keys.encode()).decode()})


def write_in_place(path: Path, text: str) -> None:
    """Replace the content as `os.WriteFile` of Go does: emptied first, in the same file."""
    with path.open("w") as file:
        file.flush()
        file.write(text)
