"""Imports point one way, public modules say what is public, files stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import manor_mcp_interceptors

ROOT = Path(manor_mcp_interceptors.__file__).parent
GENERATED = ROOT / "_search_service"
FILES = sorted(path for path in ROOT.rglob("*.py") if GENERATED not in path.parents)
SERVER_ADAPTERS = sorted("server." + path.stem for path in (ROOT / "server").glob("[!_]*.py"))
MAX_LINES = 250

LAYERS = [
    # Each line may import from the lines above it, and from its own line.
    {"_dataclass", "outcomes", "errors", "_bearer", "_hs256", "clocks", "_hosts", "_log", "_otel"},
    {"_counters", "stats"},
    {"settings"},
    {"_secret_file", "keys", "flags", "openfeature_gate"},
    {"tokens", "_flag_job", "_flag_poll", "_flag_trouble"},
    {"_setup", "_token_cache"},
    {"_decide"},
    {"_lease"},
    {"_leased_provider"},
    {"provider"},
    {"client"},
    {"_auth_server", "_demo", "_doctor", "testing", "pytest_plugin"},
    {"_cli", "_cli_input", "_cli_output", "__main__"},
]
LEAVES = LAYERS[0]


def name_of(path: Path) -> str:
    """Return the dotted name below the package: ``client.httpx_auth``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted names below the package that a file imports, wherever it does."""
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


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    """Settings and keys, then tokens, then the provider, then what puts a token on a call."""
    mine = top(name_of(path))
    if mine in ("__init__", "server"):  # the first imports all, lazily; the second has its own law
        return
    place = next((i for i, layer in enumerate(LAYERS) if mine in layer), None)
    assert place is not None, f"{mine} has no place in LAYERS yet"
    allowed = set().union(*LAYERS[: place + 1])
    if place >= len(LAYERS) - 2:
        allowed |= {"server", "_search_service", *manor_mcp_interceptors.__all__}
    assert {top(name) for name in imports_of(path)} <= allowed


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_two_doors_never_meet(path: Path) -> None:
    """`server/` knows neither the provider nor `client/`; `client/` knows not `server/`."""
    imported = set(imports_of(path))
    tops = {top(name) for name in imported}
    if top(name_of(path)) == "server":
        assert not tops & {"client", "provider", "_leased_provider", "_token_cache", "_setup"}
        assert not tops & {"tokens", "flags", "_flag_poll", "testing", "_cli", "_demo"}
    if top(name_of(path)) == "client":
        assert not tops & {"server", "settings", "keys", "tokens", "flags", "_hs256"}


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_leaves_only(leaf: str) -> None:
    """Both doors stand on them."""
    assert {top(name) for name in imports_of(ROOT / f"{leaf}.py")} <= LEAVES


def test_the_import_finder_finds() -> None:
    """Relative, absolute, lazy and under TYPE_CHECKING: a blind finder would pass everything."""
    assert "provider" in set(imports_of(ROOT / "client" / "_token_source.py"))
    assert "client.requests_auth" in set(imports_of(ROOT / "__init__.py"))
    assert "testing" in set(imports_of(ROOT / "pytest_plugin.py"))
    assert "server.verifier" in set(imports_of(ROOT / "_auth_server.py"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_prints_but_the_command_line_and_the_demo(path: Path) -> None:
    """Libraries log."""
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    printing = [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
    assert not printing or top(name_of(path)).startswith(("_cli", "_demo"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_public_module_says_what_is_public(path: Path) -> None:
    """`__all__`, sorted out by hand, each name there; a private module needs none."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if any(part.startswith("_") for part in parts):
        return
    tree = ast.parse(path.read_text())
    found = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]
    ]
    assert len(found) == 1
    bound = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
    bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not is_load(n)}
    bound |= {
        alias.asname or alias.name for alias in ast.walk(tree) if isinstance(alias, ast.alias)
    }
    assert set(found[0]) <= bound


def is_load(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_fits_a_few_screens(path: Path) -> None:
    """One file, one reason to open it."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_every_public_name_is_type_checked_in_use() -> None:
    """`typing_api.py` is only worth what it mentions."""
    tree = ast.parse((Path(__file__).parent / "typing_api.py").read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    public = set(manor_mcp_interceptors.__all__)
    for name in ("testing", "stats", "openfeature_gate", *SERVER_ADAPTERS):
        public |= set(import_module(f"manor_mcp_interceptors.{name}").__all__)
    assert public <= used
