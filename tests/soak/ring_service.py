"""One service of a ring, in a process of its own: ``python -m tests.soak.ring_service``.

It is configured by its environment alone, as any service is. It prints its port, verifies its
callers, and calls the next service in the ring, whose URL is in the file that ``RING_NEXT`` names.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import Depends, FastAPI

from manor_mcp_interceptors import HttpxAuth
from manor_mcp_interceptors.server.fastapi_dependency import MCPTokenDependency
from manor_mcp_interceptors.stats import process_stats


def ring_service(next_service: Path) -> FastAPI:
    """Return the application."""
    # A connection a call: which process answers must not depend on the one before.
    client = httpx.AsyncClient(
        auth=HttpxAuth(), headers={"Connection": "close"}, timeout=30, trust_env=False
    )
    service = FastAPI()

    def url(left: int) -> str:
        return f"{next_service.read_text()}/ring/{left}"

    async def call_next(left: int) -> list[int]:
        answer = await client.get(url(left))
        return [answer.status_code, *(answer.json() if answer.is_success else [])]

    async def ring(left: int) -> list[int]:
        return await call_next(left - 1) if left else []

    def stats() -> dict[str, Any]:
        return asdict(process_stats().server)

    door = Depends(MCPTokenDependency())
    service.add_api_route("/ring/{left}", ring, dependencies=[door])
    service.add_api_route("/start/{left}", call_next)
    service.add_api_route("/stats", stats)
    return service


def main() -> None:
    """Serve until SIGTERM; calls that are under way are answered."""
    logging.disable(logging.WARNING)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(ring_service(Path(os.environ["RING_NEXT"])), log_level="error")
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
