"""What importing costs, each time in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator

import manor_mcp_interceptors

from ._harness import Bench, Result, Role, Row, Run, Table

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(manor_mcp_interceptors.__file__)))
PATHS = [ROOT, sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
ADAPTERS = {
    "RequestsAuth": "requests",
    "HttpxAuth": "httpx",
    "Httpx2Auth": "httpx2",
    "AiohttpAuth": "aiohttp",
    "GrpcAuthInterceptor": "grpc",
    "grpc_aio_interceptors": "grpc.aio",
    "grpc_authenticated_channel": "grpc",
    "grpc_aio_authenticated_channel": "grpc.aio",
    "grpc_call_credentials": "grpc",
    "TokenVerifier": "jwt",
}


def tables(bench: Bench) -> Iterator[Table]:
    """Time imports over a bare interpreter, and adapters over their own libraries."""
    core = "import manor_mcp_interceptors"
    adapters = bench.pick(ADAPTERS, {"RequestsAuth": "requests", "TokenVerifier": "jwt"})
    yield bench.compare(
        "Import time over a bare interpreter",
        [
            Row(core, importing(core), "ours", limit=25),
            Row(
                "import dataclasses, logging, enum, threading",
                importing("import dataclasses, logging, enum, threading"),
                "floor",
            ),
            *(
                Row(f"import {name}", importing(f"import {name}"), "floor")
                for name in sorted({*adapters.values()})
            ),
        ],
        unit="ms",
        rounds=15,
    )
    yield bench.compare(
        "Import time of an adapter, its own library and our core loaded",
        [
            Row(
                f"{adapter}, over {library}",
                importing(
                    f"from manor_mcp_interceptors import {adapter}", f"import {library}; {core}"
                ),
                "ours",
                limit=3,
            )
            for adapter, library in adapters.items()
        ],
        unit="ms",
        rounds=15,
    )
    yield bench.compare(
        "Import time of core and adapter, its own library loaded",
        [
            Row(
                f"{adapter}, over {library}",
                importing(f"from manor_mcp_interceptors import {adapter}", f"import {library}"),
                "ours",
            )
            for adapter, library in adapters.items()
        ],
        unit="ms",
        rounds=15,
    )
    if not os.path.exists("/proc/self/status"):  # Linux tells the peak there
        return
    yield Table(
        "Memory that an import takes (peak resident size, over a bare interpreter)",
        "KiB",
        [memory(core, "ours"), *(memory(f"import {name}", "floor") for name in ("jwt", "httpx"))],
    )


def importing(statement: str, before: str = "pass") -> Run:
    """Return a run of fresh interpreters; the CPU time, inside, of `statement`."""
    code = (
        f"{before}\nfrom time import process_time as now\nstart = now()\n"
        f"{statement}\nprint(now() - start)"
    )

    def run(count: int) -> float:
        return sum(float(fresh(code)) for _ in range(count))

    return run


def fresh(code: str) -> str:
    """Run code in an interpreter without `site`, which may import things of its own."""
    start = f"import sys; sys.path[:0] = {PATHS!r}\n"
    command = [sys.executable, "-I", "-S", "-c", start + code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def memory(statement: str, role: Role) -> Result:
    """Return how much the peak resident size grows."""
    # Not getrusage: on Linux, its peak starts with the parent's.
    usage = "print(next(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))"
    bare, grown = (int(fresh(f"{code}\n{usage}")) for code in ("pass", statement))
    return Result(statement, role, grown - bare)
