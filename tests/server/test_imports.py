"""The server half stands alone: it verifies without any code that could sign or send."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import manor_mcp_interceptors

PACKAGE = Path(manor_mcp_interceptors.__file__).parent
MODULES = sorted(path.stem for path in (PACKAGE / "server").glob("*.py"))
FORBIDDEN = ("client", "provider", "_decision", "_keys.tokens")


def imported(module: str) -> Iterator[str]:
    """Yield every module that the source of `module` imports, at any depth of code."""
    parts = module.split(".")
    path = PACKAGE.parent.joinpath(*parts)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    package = parts if path.name == "__init__.py" else parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def reachable(module: str) -> set[str]:
    """Return all modules of the package that `module` leads to, without the package itself."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imported(waiting.pop()):
            path = PACKAGE.parent.joinpath(*name.split("."))
            inside = name.startswith("manor_mcp_interceptors.")
            if inside and name not in found and (path.is_dir() or path.with_suffix(".py").exists()):
                found.add(name)
                waiting.append(name)
    return found


def test_the_server_half_reaches_neither_client_nor_provider() -> None:
    """By no chain of imports, from any of its modules."""
    reached = {
        f"server.{module} reaches {name}"
        for module in MODULES
        for name in reachable(f"{PACKAGE.name}.server.{module}".removesuffix(".__init__"))
        if name.partition(".")[2].startswith(FORBIDDEN)
    }
    assert reached == set()


def test_the_walk_sees_what_it_should() -> None:
    """Otherwise the test above would always pass."""
    assert "manor_mcp_interceptors._keys.keys" in reachable(
        "manor_mcp_interceptors.server.verifier"
    )
    assert "manor_mcp_interceptors._decision.configuration" in reachable(
        "manor_mcp_interceptors.provider"
    )
    assert len(MODULES) >= 10


FRAMEWORKS = {
    "aiohttp",
    "fastapi",
    "starlette",
    "grpc",
    "mcp",
    "fastmcp",
    "httpx",
    "httpx2",
    "requests",
}


def test_the_verifier_loads_no_framework() -> None:
    """In a new interpreter: PyJWT, and nothing that serves or sends; nor the plain middleware."""
    code = """
import sys
from manor_mcp_interceptors import TokenVerifier
from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware
from manor_mcp_interceptors.server.forward_auth import app
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "jwt" in loaded
    assert loaded.isdisjoint(FRAMEWORKS)


ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == {!r}:
            raise ModuleNotFoundError(name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("fastapi_dependency", "fastapi", "manor-mcp-interceptors[fastapi]"),
        ("starlette_backend", "starlette", "manor-mcp-interceptors[starlette]"),
        ("grpc_interceptors", "grpc", "manor-mcp-interceptors[grpc]"),
        ("grpc_aio_interceptors", "grpc", "manor-mcp-interceptors[grpc]"),
        ("mcp_verifier", "mcp", "manor-mcp-interceptors[mcp]"),
        ("mcp_middleware", "mcp", "manor-mcp-interceptors[mcp]"),
        ("fastmcp_verifier", "fastmcp", "manor-mcp-interceptors[fastmcp]"),
    ],
)
def test_a_missing_extra_is_named(module: str, missing: str, extra: str) -> None:
    """If the library is missing, the error names what to install."""
    code = f"{ABSENT.format(missing)}\nimport manor_mcp_interceptors.server.{module}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert extra in done.stderr.strip().splitlines()[-1]
