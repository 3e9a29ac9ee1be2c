"""Imports point one way, the two halves never meet, public modules name what is public."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import manor_mcp_interceptors

ROOT = Path(manor_mcp_interceptors.__file__).parent
GENERATED = ROOT / "_cli" / "demo" / "search_service"
FILES = sorted(path for path in ROOT.rglob("*.py") if GENERATED not in path.parents)

LAYERS = [
    # Each line may import from its own line and from the lines above it.
    {"errors", "outcomes", "protocols"},
    {"_asking", "_bearer", "_hosts", "_optional", "_secrecy", "_subjects", "_waiting"},
    {"_telemetry"},
    {"settings", "stats"},
    {"_flags"},
    {"_keys"},
    {"_decision"},
    {"server"},
    {"provider"},
    {"client"},
    {"_cli"},
    {"testing", "pytest_plugin"},
    {"__main__", "__init__"},
]
NEVER = {
    "server": {"client", "provider", "_decision"},
    "client": {"server", "settings", "_keys", "_flags"},
}
"""What the two halves may not import although it stands on a lower layer."""


def name_of(path: Path) -> str:
    """Return the dotted name below the package: ``client.httpx_auth``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted names below the package that a file imports, at any depth of its code."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (n.partition(".")[2] for n in names if n.startswith(ROOT.name + "."))
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            elif base[0] != ROOT.name:
                continue
            else:
                base = base[1:]
            for alias in node.names:
                below = ROOT.joinpath(*base, alias.name)
                is_module = below.is_dir() or below.with_suffix(".py").is_file()
                yield ".".join([*base, alias.name] if is_module or not base else base)


def top(name: str) -> str:
    return name.partition(".")[0]


def test_imports_point_one_way() -> None:
    """Leaves, telemetry, settings, flags, keys, the decision, the provider, the adapters."""
    floor = {room: number for number, layer in enumerate(LAYERS) for room in layer}
    public = manor_mcp_interceptors.__all__  # `from manor_mcp_interceptors import get_token`
    assert [name_of(path) for path in FILES if top(name_of(path)) not in floor] == []
    assert [
        f"{name_of(path)} imports {imported}"
        for path in FILES
        for imported in imports_of(path)
        if imported not in public and floor[top(imported)] > floor[top(name_of(path))]
    ] == []


def test_the_two_halves_never_meet() -> None:
    """`server/` knows neither the provider nor `client/`; `client/` does not know `server/`."""
    assert [
        f"{name_of(path)} imports {imported}"
        for path in FILES
        for imported in imports_of(path)
        if top(imported) in NEVER.get(top(name_of(path)), ())
    ] == []


def test_the_import_finder_finds() -> None:
    """Relative, absolute, lazy and under TYPE_CHECKING: a blind finder would pass everything."""
    assert "provider" in set(imports_of(ROOT / "client" / "_bound_provider.py"))
    assert "client.requests_auth" in set(imports_of(ROOT / "__init__.py"))
    assert "testing" in set(imports_of(ROOT / "pytest_plugin.py"))
    assert "server.verifier" in set(imports_of(ROOT / "testing" / "auth_server.py"))


def test_nothing_prints_but_the_command_line() -> None:
    """Libraries log."""
    assert [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        if top(name_of(path)) != "_cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ] == []


def is_public(path: Path) -> bool:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return not any(part.startswith("_") and part != "__init__" for part in parts)


def test_a_public_module_says_what_is_public() -> None:
    """`__all__`, each name of which exists; a private module needs none."""
    modules = [path for path in FILES if is_public(path) and name_of(path) != "server.__init__"]
    modules.remove(ROOT / "client" / "__init__.py")
    for path in modules:
        name = name_of(path).removesuffix(".__init__").removesuffix("__init__")
        module = import_module(f"{ROOT.name}.{name}".removesuffix("."))
        missing = [public for public in module.__all__ if not hasattr(module, public)]
        assert (name, missing) == (name, [])


def test_every_public_name_is_type_checked_in_use() -> None:
    """`typing_api.py` is only worth what it mentions."""
    tree = ast.parse((Path(__file__).parent / "typing_api.py").read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    public = set(manor_mcp_interceptors.__all__)
    adapters = ["server." + path.stem for path in (ROOT / "server").glob("[!_]*.py")]
    for name in ("testing", "stats", *adapters):
        public |= set(import_module(f"manor_mcp_interceptors.{name}").__all__)
    assert public <= used
