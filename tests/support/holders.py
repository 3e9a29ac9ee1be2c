"""The objects in which the package keeps a secret or a token, each made from `env_on`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from manor_mcp_interceptors import Settings, get_token
from manor_mcp_interceptors._keys.given_token import GivenToken
from manor_mcp_interceptors._keys.keys import KeySource, SigningKey
from manor_mcp_interceptors._keys.private_key import parse_private_key
from manor_mcp_interceptors._keys.shared_secret import SharedSecret, parse_secret
from manor_mcp_interceptors._keys.token_source import AskedTokens
from manor_mcp_interceptors._keys.tokens import mint
from manor_mcp_interceptors._keys.watched_file import WatchedFile

from . import OTHER_SECRET, SECRET
from .key_pairs import key_pair


def private_pem() -> str:
    return key_pair("ES256").pem()


def key_source() -> KeySource:
    """Return one that remembers the secret and the private key of files that are gone."""
    source = KeySource()
    with TemporaryDirectory() as folder:
        path = Path(folder, "secret")
        path.write_text(SECRET)
        source.signing_key(Settings(secret_file=path))
        path.write_text(private_pem())
        source.signing_key(Settings(private_key_file=path))
    return source


def watched(text: str, parse: Callable[[str, str], SigningKey]) -> WatchedFile[SigningKey]:
    """Return a file that was read, and is gone."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "key")
        path.write_text(text)
        read = WatchedFile(str(path), "VARIABLE", parse)
        read.read()
    return read


def token_source() -> AskedTokens:
    """Return one that has a token for which no caller has waited."""
    go, has_come = threading.Event(), threading.Event()

    def give(_: str) -> str:
        go.wait(10)
        return GIVEN

    asked = AskedTokens(give, time, has_come.set)
    asked.ask("service-search-mcp", None, max_wait=0.0)
    go.set()
    assert has_come.wait(10)
    return asked


def signing_key() -> SharedSecret:
    return SharedSecret(SECRET, "kid", "MCP_AUTH_SECRET")


GIVEN: Final = "opaque-not-a-token-of-any-server"

HOLDERS: Final[dict[str, Callable[[], object]]] = {
    "Settings": lambda: Settings(secret=SECRET, previous_secret=OTHER_SECRET),
    "a misplaced secret": lambda: Settings(secret_file=SECRET),
    "KeySource": key_source,
    "WatchedFile": lambda: watched(SECRET, parse_secret),
    "WatchedFile of a private key": lambda: watched(private_pem(), parse_private_key),
    "SharedSecret": signing_key,
    "PrivateKey": lambda: parse_private_key(private_pem(), "MCP_AUTH_PRIVATE_KEY_FILE"),
    "VerificationKeys": lambda: KeySource().verification_keys(Settings.from_env()),
    "AccessToken": lambda: mint(Settings(), signing_key(), time.time()),
    "GivenToken": lambda: GivenToken(GIVEN, "MCP_AUTH_TOKEN_FILE"),
    "AskedTokens": token_source,
    "a partial function": lambda: partial(print, signing_key()),
}


def is_shown(text: str, held: object) -> bool:
    """Return whether `text` has a key, or the token that `held` has or the process uses."""
    tokens = (get_token(), getattr(held, "value", None))
    lines = [line for line in private_pem().splitlines() if "-----" not in line]
    hidden = (SECRET, OTHER_SECRET, GIVEN, *lines, *tokens)
    return any(each in text for each in hidden if each)
