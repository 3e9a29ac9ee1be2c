"""A proxy, the verifier that it asks, and the services behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.support import SECRET
from tests.support.auth_process import serve_auth

from .proxies import KINDS, Proxy, running
from .tokens import PREVIOUS_SECRET, write_jwks
from .upstreams import Upstreams

SECRETS: Final = {"MCP_AUTH_SECRET": SECRET, "MCP_AUTH_PREVIOUS_SECRET": PREVIOUS_SECRET}
UNUSED: Final = "127.0.0.1:9"
"""A verifier that nobody asks."""


def keys_of_the_table(directory: Path) -> dict[str, str]:
    """Return the variables that name every key of the table."""
    return {**SECRETS, "MCP_AUTH_JWKS_FILE": str(write_jwks(directory / "jwks.json"))}


@contextmanager
def proxy_and_verifier(
    name: str,
    services: Upstreams,
    directory: Path,
    environ: Mapping[str, str],
    edit: Callable[[str], str] = str,
) -> Iterator[Proxy]:
    """Run a proxy, and ``manor-mcp serve-auth`` if it asks a verifier.

    Args:
        name: One of `KINDS`.
        services: The services behind it.
        directory: An empty folder.
        environ: The `MCP_AUTH_*` variables of both.
        edit: Changes the text of the proxy's main file before it starts.
    """
    with ExitStack() as stack:
        auth = UNUSED
        if KINDS[name].asks:
            verifier = stack.enter_context(serve_auth(environment=environ))
            auth = verifier.url.removeprefix("http://")
        yield stack.enter_context(
            running(
                name,
                directory,
                upstream=services.http,
                grpc_upstream=services.grpc,
                auth=auth,
                environ=environ,
                edit=edit,
            )
        )
