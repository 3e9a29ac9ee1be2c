"""From one shared secret to keys, as docs/keys.md has it: what each step changes on each host."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from tests.support import SECRET
from tests.support.key_pairs import KeyPair, key_pair

NAMES: Final = ("orders", "stock", "search", "prices", "mail")
PAIRS: Final = {name: key_pair("ES256", number) for number, name in enumerate(NAMES, 1)}
ROTATED: Final = NAMES[0]
"""The service whose key is replaced."""
NEW_PAIR: Final = key_pair("ES256", 6)


class Host:
    """The files and variables of one service."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir()
        self.name = name
        self.folder = folder
        self.write("secret", SECRET)
        self.variables = {"SERVICE_NAME": name, "MCP_AUTH_SECRET_FILE": str(folder / "secret")}

    def write(self, name: str, content: str) -> None:
        """Replace a file by rename, as the kubelet does."""
        new = self.folder / f"{name}.new"
        new.write_text(content)
        os.replace(new, self.folder / name)

    def write_jwks(self, pairs: list[tuple[str, KeyPair]], *, bound: bool = False) -> None:
        """Write the public keys of all services; a bound one names its service as its subject."""
        keys = [pair.jwk(sub=name) if bound else pair.jwk() for name, pair in pairs]
        self.write("callers.jwks", json.dumps({"keys": keys}))


class Fleet(Protocol):
    """Services that call each other all the time."""

    def changed(self, host: Host, *, restart: bool) -> None:
        """Go on for a while after the files, or also the variables, of one host have changed."""

    def settle(self) -> None:
        """Go on until every service has read its files again."""

    def outlive(self) -> None:
        """Go on until every token that is in use now has expired."""


def accept_keys(host: Host) -> bool:
    """Step 1: the public keys of all, beside the secret."""
    host.write("private.pem", PAIRS[host.name].pem())
    host.write_jwks([*PAIRS.items()])
    host.variables["MCP_AUTH_JWKS_FILE"] = str(host.folder / "callers.jwks")
    return True


def sign_with_key(host: Host) -> bool:
    """Step 2: the secret moves to the previous place, and the private key takes its own."""
    secret_file = host.variables.pop("MCP_AUTH_SECRET_FILE")
    host.variables["MCP_AUTH_PREVIOUS_SECRET_FILE"] = secret_file
    host.variables["MCP_AUTH_PRIVATE_KEY_FILE"] = str(host.folder / "private.pem")
    return True


def retire_secret(host: Host) -> bool:
    """Step 3: nobody accepts the secret."""
    (host.folder / "secret").unlink()
    return False


def bind_keys(host: Host) -> bool:
    """Each key speaks for its service alone."""
    host.write_jwks([*PAIRS.items()], bound=True)
    return False


def add_new_key(host: Host) -> bool:
    """Rotation, step 1: the old and the new key of one service."""
    host.write_jwks([*PAIRS.items(), (ROTATED, NEW_PAIR)], bound=True)
    return False


def use_new_key(host: Host) -> bool:
    """Rotation, step 2: on the host of that service alone."""
    if host.name == ROTATED:
        host.write("private.pem", NEW_PAIR.pem())
    return False


def drop_old_key(host: Host) -> bool:
    """Rotation, step 3."""
    host.write_jwks([*{**PAIRS, ROTATED: NEW_PAIR}.items()], bound=True)
    return False


Step = Callable[[Host], bool]
"""Changes the files of a host, or its variables as well: returns whether it must be restarted."""

STEPS: Final[tuple[Step, ...]] = (
    *(accept_keys, sign_with_key, bind_keys, add_new_key, use_new_key, drop_old_key),
    retire_secret,
)
WAIT_FOR_TOKENS: Final = (sign_with_key, use_new_key)
"""What comes after them must wait until the tokens that were signed before have expired."""


def migrate(
    hosts: list[Host], fleet: Fleet, order: random.Random, steps: tuple[Step, ...] = STEPS
) -> None:
    """Take the steps, each on all hosts in any order before the next one."""
    for step in steps:
        for host in order.sample(hosts, len(hosts)):
            fleet.changed(host, restart=step(host))
        fleet.settle()
        if step in WAIT_FOR_TOKENS:
            fleet.outlive()
