"""Does ``[all]`` resolve together with the newest release of each agent framework?

Run as ``python -m tests.packaging.check_frameworks_resolve [NAME ...]``. Nothing is installed; it
needs a package index and `uv`. The newest release is asked for first and then required: an
installer takes an older one without a word if the newest conflicts.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
FRAMEWORKS: Final = (
    "mcp<2",
    "mcp>=2",
    "fastmcp<4",
    "fastmcp>=4",
    "langchain-mcp-adapters",
    "openai-agents",
    "pydantic-ai-slim[mcp]",
    "google-adk[mcp]",
    "strands-agents",
    "llama-index-tools-mcp",
    "autogen-ext[mcp]",
    "crewai-tools[mcp]",
    "smolagents[mcp]",
    "agent-framework",
    "semantic-kernel[mcp]",
    "dspy[mcp]",
    "mcp-haystack",
    "mcp-use",
)
CONFLICT: Final = "CONFLICT"
ROW: Final = "{:<26} {:<12} {:<9} {:<9} {}"


class Resolved(NamedTuple):
    """What the resolver answered."""

    versions: dict[str, str]
    """The version of each distribution; empty if there is no solution."""
    conflict: str
    """The resolver's explanation."""


class Row(NamedTuple):
    """One line of the table."""

    framework: str
    version: str
    mcp: str
    fastmcp: str
    result: str


def resolve(*requirements: str, deps: bool = True) -> Resolved:
    """Resolve `requirements` for this Python, without installing anything."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        sys.exit("uv is missing: pip install uv")
    options = ["--no-header", "--no-annotate", "--quiet", *([] if deps else ["--no-deps"])]
    done = subprocess.run(
        [uv, "pip", "compile", "--python", sys.executable, *options, "-"],
        input="\n".join(requirements),
        capture_output=True,
        text=True,
        check=False,
    )
    versions = dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", done.stdout, re.MULTILINE))
    return Resolved(versions, " ".join(done.stderr.split()))


def check(framework: str) -> Row:
    """Resolve the newest release of `framework` together with this package's ``[all]``."""
    name = re.split(r"[\[<>]", framework)[0]
    newest = resolve(framework, deps=False)
    if name not in newest.versions:
        return Row(framework, "-", "-", "-", f"not found: {newest.conflict}")
    version = newest.versions[name]
    pinned = f"{re.split(r'[<>]', framework)[0]}=={version}"
    together = resolve(f"manor-mcp-interceptors[all] @ {ROOT.as_uri()}", pinned)
    found, result = together.versions, "ok"
    if not found:
        found = resolve(pinned).versions
        result = f"{CONFLICT if found else 'broken by itself'}: {together.conflict}"
    return Row(framework, version, found.get("mcp", "-"), found.get("fastmcp", "-"), result)


def main() -> None:
    """Print the table; exit with 1 on a conflict."""
    chosen = [f for f in FRAMEWORKS if not sys.argv[1:] or f.startswith(tuple(sys.argv[1:]))]
    rows = []
    for number, framework in enumerate(chosen, 1):
        sys.stderr.write(f"[{number}/{len(chosen)}] {framework}\n")
        rows.append(check(framework))
    head = ("framework", "newest", "mcp", "fastmcp", "with [all]")
    sys.stdout.writelines(ROW.format(*row) + "\n" for row in (head, *rows))
    sys.exit(any(row.result.startswith((CONFLICT, "not found")) for row in rows))


if __name__ == "__main__":
    main()
