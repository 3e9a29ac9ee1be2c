"""Do the tests pass with the least versions that pyproject.toml admits?

Run as ``python -m tests.packaging.check_least_versions``. It needs a package index and `uv`. Two
environments, because FastMCP asks for newer releases of Starlette and httpx.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import requires
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "manor-mcp-interceptors"
TOOLS: Final = (
    "authlib",
    "cloudpickle",
    "freezegun",
    "grpcio-health-checking",
    "grpcio-reflection",
    "grpcio-testing",
    "hypothesis",
    "joserfc",
    "opentelemetry-sdk",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "time-machine",
    "trio",
    "typing_extensions",
    "uvicorn",
)
"""What the tests import besides; in a version that fits the others."""
CLIENTS: Final = ("requests", "httpx2", "aiohttp", "grpc", "openfeature", "otel")
WITH_FASTMCP: Final = (
    "tests/client/http/test_http_mcp.py",
    "tests/client/test_mcp_http.py",
    "tests/server/test_enforcement.py",
    "tests/server/test_enforcement_adapters.py",
    "tests/server/test_mcp_verifier.py",
    "tests/server/test_misconfigured.py",
    "tests/server/test_other_issuers.py",
    "tests/server/test_pickles.py",
    "tests/server/test_scopes.py",
)
NEEDS_MORE: Final = ("tests/client/test_grpc_official_stubs.py", "tests/flags/test_flagd.py")
"""Tests of packages that ask for newer releases."""


class Environment(NamedTuple):
    """What to install in its least version, and what to run."""

    extras: tuple[str, ...]
    unpinned: tuple[str, ...]
    """Extras that come in a version that fits the others."""
    tests: tuple[str, ...]


ENVIRONMENTS: Final = {
    "without FastMCP": Environment(
        (*CLIENTS, "httpx", "cli", "mcp", "fastapi", "starlette"),
        (),
        (
            *("tests/keys", "tests/flags", "tests/client", "tests/server", "-k", "not FastMCP"),
            *(f"--ignore={path}" for path in (*WITH_FASTMCP, *NEEDS_MORE)),
        ),
    ),
    "with FastMCP": Environment(
        (*CLIENTS, "fastmcp"),
        ("httpx", "mcp", "fastapi", "starlette"),
        WITH_FASTMCP,
    ),
}


def least(extras: Sequence[str]) -> list[str]:
    """Return what the package and `extras` require, each in its least version."""
    found = map(Requirement, requires(PACKAGE) or ())
    return [
        str(requirement).partition(";")[0].replace(">=", "==")
        for requirement in found
        if requirement.name != PACKAGE
        and any(_applies(requirement, extra) for extra in ("", *extras))
    ]


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def check(environment: Environment, folder: str) -> subprocess.CompletedProcess[str]:
    """Make the environment in `folder` and run its tests."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        sys.exit("uv is missing: pip install uv")
    python = str(Path(folder, "bin", "python"))
    install = (uv, "pip", "install", "-q", "--python", python)
    package = f"{ROOT}[{','.join((*environment.extras, *environment.unpinned))}]"
    # Not as errors: older libraries warn of newer ones.
    options = ("-q", "-n", "2", "-m", "not slow", "-o", "filterwarnings=", "-p", "no:cacheprovider")
    for command in (
        (uv, "venv", "-q", "--python", sys.executable, folder),
        (*install, *least(environment.extras), *TOOLS, "-e", package),
        (python, "-m", "pytest", *options, *environment.tests),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode:
            break
    return done


def main() -> int:
    """Check both environments, and print the end of what each test run has printed."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        running = {
            name: pool.submit(check, environment, str(Path(folder, name.replace(" ", "-"))))
            for name, environment in ENVIRONMENTS.items()
        }
        for name, future in running.items():
            done = future.result()
            output = (done.stdout + done.stderr).splitlines()
            shown = output if done.returncode else output[-1:]
            pins = " ".join(least(ENVIRONMENTS[name].extras))
            sys.stdout.writelines(f"{line}\n" for line in (f"{name}: {pins}", *shown))
        return max(future.result().returncode for future in running.values())


if __name__ == "__main__":
    sys.exit(main())
