"""The public keys of callers, in a JWK set (RFC 7517)."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from manor_mcp_interceptors._optional import needs
from manor_mcp_interceptors._subjects import Subjects

from .public_key import PublicKey, algorithm_of
from .watched_file import NotUsableError

_READERS: Final = {"EC": "ES256", "RSA": "RS256", "OKP": "EdDSA"}
"""By `kty`: what reads the key. Whether the key is good enough is decided by `algorithm_of`."""
_USES: Final = ("sig", "jwt-svid")
"""The second is that of SPIFFE bundles (the SPIFFE Trust Domain and Bundle, section 4.2.2)."""
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
"""Private members (RFC 7518, section 6)."""
MAX_KEY_ID: Final = 256
"""Characters."""
MAX_WARNINGS: Final = 16
"""How many of a file's keys are named that are not used."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a JWKS file, by `kid`."""

    source: str
    """The variable or field that it came from, and the file's path."""
    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """Which keys are not used, and why."""


def parse_jwks(text: str, source: str) -> KeySet:
    """Return the usable keys in `text`; each of the others is a warning.

    A `kid` that occurs twice names no key: neither is used.

    Raises:
        NotUsableError: It is not a JWK set, or it has no usable key.
        MissingExtraError: `cryptography` is not installed.
    """
    members = read_members(text)
    if not members:
        raise NotUsableError("holds no key")
    count = Counter(map(key_id_of, members))
    keys: dict[str, PublicKey] = {}
    warnings: list[str] = []
    for number, member in enumerate(members, start=1):
        found = _read_or_explain(member, is_twice=count[key_id_of(member)] > 1)
        if isinstance(found, PublicKey):
            keys[found.key_id] = found
        else:
            warnings.append(f"{_shown(member, number)} is not used: {found}")
    if not keys:
        raise NotUsableError(f"holds no usable key: {warnings[0]}")
    if (more := len(warnings) - MAX_WARNINGS) > 0:
        warnings[MAX_WARNINGS:] = [f"{more} more of its keys are not used"]
    return KeySet(source, keys, tuple(f"{source}: {text}" for text in warnings))


def _read_or_explain(jwk: object, *, is_twice: bool) -> PublicKey | str:
    try:
        key = read_key(jwk)
    except NotUsableError as error:
        return str(error)
    return "another key has the same kid" if is_twice else key


def read_members(text: str) -> list[Any]:
    """Return the members of ``keys`` in the JWK set `text`, unchecked.

    It may also be the file that `spiffe-helper` writes, with a JWK set for each trust domain.

    Raises:
        NotUsableError: It is not a JWK set.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise NotUsableError("is not JSON; it takes a JWK set (RFC 7517)") from None
    members = found.get("keys") if isinstance(found, dict) else None
    if members is None and isinstance(found, dict):
        members = _of_trust_domains(found)
    if not isinstance(members, list):
        raise NotUsableError('is not a JWK set (RFC 7517): an object with a list "keys"')
    return members


def _of_trust_domains(bundles: dict[str, Any]) -> list[Any] | None:
    """Return the keys of all bundles; None if one of them is not the base64 of a JWK set.

    A key speaks for the SPIFFE IDs of its trust domain alone: a federated domain must not sign
    for this one.
    """
    try:
        return [
            {**key, "sub": f"spiffe://{domain}/*"}
            for domain, encoded in bundles.items()
            for key in json.loads(base64.b64decode(encoded, validate=True))["keys"] or ()
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def read_key(jwk: object) -> PublicKey:
    """Return the public key in `jwk`; its algorithm follows from the key.

    Raises:
        NotUsableError: It is not used, and why.
        MissingExtraError: `cryptography` is not installed.
    """
    if not isinstance(jwk, dict):
        raise NotUsableError("it is no JSON object")
    if leak := leak_in(jwk):
        raise NotUsableError(f"it holds {leak}: replace that key everywhere")
    key_id = key_id_of(jwk)
    if key_id is None:
        raise NotUsableError(f"it has no kid: printable text of at most {MAX_KEY_ID} characters")
    algorithm, key = _load(jwk)
    _check_purpose(jwk, algorithm)
    return PublicKey(key, algorithm, key_id, _subjects(jwk))


def leak_in(jwk: object) -> str | None:
    """Return which secret `jwk` holds, and its members by name; None if it is public."""
    leaked = [name for name in _PRIVATE if isinstance(jwk, dict) and name in jwk]
    if not leaked:
        return None
    return f"{'a shared secret' if 'k' in leaked else 'a private key'} ({', '.join(leaked)})"


def key_id_of(jwk: object) -> str | None:
    """Return the `kid` of `jwk`; None if it has none that is usable."""
    key_id = jwk.get("kid") if isinstance(jwk, dict) else None
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_KEY_ID:
        return None
    return key_id if key_id.isprintable() else None  # it becomes a metric's attribute


def _load(jwk: dict[str, Any]) -> tuple[str, Any]:
    from jwt.algorithms import get_default_algorithms  # PyJWT: not before there is a key
    from jwt.exceptions import PyJWTError

    name = _READERS.get(str(jwk.get("kty")))
    if name is None:
        raise NotUsableError("its kty is not EC, RSA or OKP")
    with needs("cryptography", "a public or private key", extra="crypto"):
        import cryptography.hazmat  # noqa: F401 - without it, PyJWT has no reader
    try:
        whole = _with_whole_coordinates(jwk) if name == "ES256" else jwk
        key = get_default_algorithms()[name].from_jwk(whole)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        raise NotUsableError("its numbers are no key") from None
    algorithm = algorithm_of(key)
    if algorithm is None:
        raise NotUsableError("it is not P-256, RSA of 2048 bits or more, or a strong Ed25519 key")
    return algorithm, key


def _with_whole_coordinates(jwk: dict[str, Any]) -> dict[str, Any]:
    """Return an EC key with coordinates of 32 bytes, as RFC 7518, section 6.2.1.2 asks.

    authlib leaves out the zeros that a coordinate begins with: one key of 128 has some.
    """
    from jwt.utils import base64url_decode, base64url_encode

    whole = {name: base64url_decode(jwk[name]).rjust(32, b"\0") for name in ("x", "y")}
    return jwk | {name: base64url_encode(value).decode() for name, value in whole.items()}


def _check_purpose(jwk: dict[str, Any], algorithm: str) -> None:
    """Raise NotUsableError if `use`, `key_ops` or `alg` say that the key is for something else."""
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") not in _USES:
        raise NotUsableError("its use is not sig")
    if not isinstance(operations, list) or "verify" not in operations:
        raise NotUsableError("its key_ops do not name verify")
    if jwk.get("alg", algorithm) != algorithm:
        raise NotUsableError(f"its alg is not {algorithm}")


def _subjects(jwk: dict[str, Any]) -> Subjects | None:
    if "sub" not in jwk:
        return None
    given = jwk["sub"] if isinstance(jwk["sub"], list) else [jwk["sub"]]
    if not given or not all(isinstance(one, str) and one.strip() for one in given):
        raise NotUsableError("its sub is not a text, or a list of texts")
    try:
        return Subjects.of(given)
    except ValueError as error:
        raise NotUsableError(f"its sub {error}") from None


def _shown(jwk: object, number: int) -> str:
    """Return the name of a key in a message: its `kid`, which is public, or its number."""
    key_id = key_id_of(jwk)
    return f"key {number}" if key_id is None else f"the key {key_id[:80]!a}"
