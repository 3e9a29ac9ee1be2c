"""Build wheel and sdist, look into them, and install the wheel with each extra alone.

Run from anywhere: ``python tests/packaging/check_wheel.py``. It needs a package index or a warm
pip cache, and says at the end how long it took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from email import message_from_string
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "manor_mcp_interceptors"
IN_WHEEL: Final = [
    "py.typed",
    "__init__.py",
    "pytest_plugin.py",
    "client/httpx_auth.py",
    "server/verifier.py",
    "_cli/demo/search_service/search_service_pb2.py",
    "_cli/demo/search_service/search_service_pb2.pyi",
    "_cli/demo/search_service/search_service_pb2_grpc.py",
    "protos/manor/mcp/v1/search_service.proto",
]
IN_SDIST: Final = [
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "docs",
    "protos",
    "tests",
]

CLIENTS: Final = {
    "requests": ["RequestsAuth"],
    "httpx": ["HttpxAuth"],
    "httpx2": ["Httpx2Auth"],
    "aiohttp": ["AiohttpAuth"],
    "grpc": [
        "GrpcAuthInterceptor",
        "grpc_aio_authenticated_channel",
        "grpc_aio_interceptors",
        "grpc_authenticated_channel",
        "grpc_call_credentials",
    ],
}
NAMES: Final[dict[str, list[str]]] = {
    **CLIENTS,
    "crypto": [],
    "openfeature": ["_flags.openfeature_gate"],
    "fastapi": ["server.fastapi_dependency"],
    "starlette": ["server.starlette_backend"],
    "mcp": ["server.mcp_verifier", "mcp_auth()", "mcp_http_client()"],
    "fastmcp": ["server.fastmcp_verifier", "mcp_auth()"],
    "otel": [],
    "edge": ["server.forward_auth", "_cli.auth_server"],
    "cli": ["_cli.commands"],
}
"""What must work with the extra and nothing else installed: names, calls, or modules."""
NAMES["grpc"] += [
    "server.grpc_interceptors",
    "server.grpc_aio_interceptors",
    "_cli.demo.search_service.search_service_pb2_grpc",
]

CORE: Final = """
import importlib, sys
import manor_mcp_interceptors as package
from importlib.metadata import version
assert package.__version__ == version("manor-mcp-interceptors") == sys.argv[1]
assert "site-packages" in package.__file__, package.__file__
assert package.get_token() is None
from manor_mcp_interceptors.testing import auth_on
with auth_on() as secret:
    settings = package.Settings(secret=secret)
    package.TokenVerifier(settings).verify(package.get_token())
"""
NAME: Final = """
for name in sys.argv[2:]:
    if name.removesuffix("()") in package.__all__:
        used = getattr(package, name.removesuffix("()"))
        if name.endswith("()"):
            used()
    else:
        importlib.import_module(f"manor_mcp_interceptors.{name}")
"""
KEYS: Final = """
for algorithm in ("ES256", "RS256", "EdDSA"):
    with auth_on(algorithm=algorithm):
        package.TokenVerifier().verify(package.get_token())
"""
ABSENT: Final = """
for name in sys.argv[2:]:
    try:
        getattr(package, name)()
    except ModuleNotFoundError as error:
        assert "pip install 'manor-mcp-interceptors[" in str(error), error
    else:
        raise AssertionError(name)
others = {p.metadata["Name"] for p in importlib.metadata.distributions()}
assert others - {"typing_extensions"} == {"manor-mcp-interceptors", "PyJWT"}, others
"""
SCRIPTS: Final = """
for point in importlib.metadata.entry_points(group="console_scripts"):
    if point.dist.name == "manor-mcp-interceptors":
        point.load()
"""


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run quietly, in a clean environment; on failure say all."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MCP_AUTH", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:4]))} …\n{done.stdout}{done.stderr}")


def make_venv(path: Path, *requirements: str) -> Path:
    """Make an environment with nothing in it but the requirements; return its python."""
    venv.create(path)  # without pip, which takes longer than all the rest: ours installs there
    python = path / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    run(*pip, "install", "-q", "--no-compile", *requirements)
    return python


def build(work: Path) -> tuple[Path, Path]:
    """Build both; the wheel from what the sdist holds, so that the sdist is known to be whole."""
    python = make_venv(work / "build", "hatchling>=1.27")
    run(python, "-m", "hatchling", "build", "-t", "sdist", "-d", work)
    (sdist,) = work.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(work / "sdist", filter="data")
    (unpacked,) = (work / "sdist").iterdir()
    run(python, "-m", "hatchling", "build", "-t", "wheel", "-d", work, cwd=unpacked)
    (wheel,) = work.glob("*.whl")
    return wheel, sdist


def require(missing: Iterable[str], what: str) -> None:
    if found := sorted(missing):
        sys.exit(f"{what}: {', '.join(found)}")


def look_into_wheel(wheel: Path) -> tuple[str, set[str]]:
    """Check what is in it; return version and extras."""
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        info = {n.partition(".dist-info/")[2]: n for n in archive.namelist()}
        metadata = message_from_string(archive.read(info["METADATA"]).decode())
        points = archive.read(info.get("entry_points.txt", info["METADATA"])).decode()
    require({f"{PACKAGE}/{name}" for name in IN_WHEEL} - names, "not in the wheel")
    files = (path for path in (ROOT / PACKAGE).rglob("*") if path.is_file())
    sources = {str(path.relative_to(ROOT)) for path in files}
    sources = {name for name in sources if "__pycache__" not in name}
    require(sources - names, "not in the wheel")
    require((n for n in names if not n.startswith(f"{PACKAGE}/")), "too much in the wheel")
    require((n for n in names if "/test_" in n or "/tests/" in n or ".pyc" in n), "tests in it")
    plugin = f"{PACKAGE}.pytest_plugin = {PACKAGE}.pytest_plugin"
    require([] if plugin in points else [plugin], "not among the entry points")
    return str(metadata["Version"]), set(metadata.get_all("Provides-Extra", []))


def look_into_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
    require({*IN_SDIST, PACKAGE} - tops, "not in the sdist")
    require((n for n in names if "__pycache__" in n or n.startswith(".venv")), "too much in it")


def try_alone(work: Path, wheel: Path, version: str, extra: str) -> None:
    """Install the wheel with one extra, or none, and import what belongs to it."""
    requirement = f"{wheel}[{extra}]" if extra else str(wheel)
    python = make_venv(work / f"with-{extra}", requirement)
    code, names = CORE + NAME, NAMES.get(extra, [])
    if not extra:
        code, names = CORE + ABSENT, [name for each in CLIENTS.values() for name in each[:3]]
    if extra == "all":
        names = sorted({name for each in NAMES.values() for name in each})
    if extra in ("crypto", "all"):
        code += KEYS
    if extra in ("cli", "all"):
        code += SCRIPTS
        run(python, "-m", PACKAGE, "--help", cwd=work)
    run(python, "-W", "error", "-c", code, version, *names, cwd=work)


def main() -> None:
    """Check everything; leave with a message at the first thing that is wrong."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        wheel, sdist = build(work)
        version, extras = look_into_wheel(wheel)
        look_into_sdist(sdist)
        require(extras ^ {*NAMES, "all", "bench", "test"}, "extras here and in the metadata differ")
        built = time.monotonic() - start
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(try_alone, work, wheel, version, e) for e in ["", *NAMES, "all"]]
            for job in jobs:
                job.result()
    took = time.monotonic() - start
    sys.stdout.write(
        f"wheel and sdist of {version}: {built:.0f} s; {len(jobs)} installations: {took:.0f} s\n"
    )


if __name__ == "__main__":
    main()
