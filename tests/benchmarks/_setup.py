"""What every section needs: a provider with a token, and the floors that nothing can beat."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from manor_mcp_interceptors import MCPTokenProvider, Settings
from manor_mcp_interceptors._bearer import HEADER_NAME
from tests.support import SECRET, StaticGate
from tests.support.key_pairs import ALGORITHMS, key_pair, write_jwks


@contextmanager
def process_wide(gate: Any = None, **settings: Any) -> Iterator[str]:
    """Configure the process-wide provider with the flag on; yield its token."""
    gate = StaticGate() if gate is None else gate
    MCPTokenProvider.configure(settings=Settings(secret=SECRET, **settings), gate=gate)
    try:
        token = MCPTokenProvider.get_token()
        if token is None:
            raise RuntimeError(MCPTokenProvider.get_instance().status().reason)
        yield token
    finally:
        MCPTokenProvider.reset()


@contextmanager
def key_files() -> Iterator[dict[str, Settings]]:
    """Yield settings for each asymmetric algorithm, to sign and to verify with."""
    with TemporaryDirectory() as folder:
        settings = {}
        for name in ALGORITHMS:
            private, public = Path(folder, f"{name}.pem"), Path(folder, f"{name}.jwks")
            private.write_text(key_pair(name).pem())
            write_jwks(public, key_pair(name))
            settings[name] = Settings(private_key_file=private, jwks_file=public)
        yield settings


def header(token: str) -> dict[str, str]:
    """Return the header that a caller would set by hand."""
    return {HEADER_NAME: f"Bearer {token}"}


class Snapshot:
    """A token and its end: one read, one look at the clock, one comparison."""

    __slots__ = ("token", "valid_until")

    def __init__(self, token: str) -> None:
        self.token = token
        self.valid_until = time.monotonic() + 3600

    def get(self) -> str | None:
        if time.monotonic() < self.valid_until:
            return self.token
        return None


class LockedSnapshot(Snapshot):
    """The same behind a lock, as most libraries do it."""

    __slots__ = ("lock",)

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.lock = threading.Lock()

    def get(self) -> str | None:
        with self.lock:
            if time.monotonic() < self.valid_until:
                return self.token
            return None
