"""``python -m tests.benchmarks [section ...] [--quick] [--json FILE] [--plot FILE.png]``.

Each section is measured in interpreters of its own: what one of them imports or leaves behind
has no part in the next.
"""

from __future__ import annotations

import argparse
import logging
import sys
from importlib import import_module
from typing import Final

from ._harness import Bench, Table
from ._report import as_text, write_json, write_plot
from ._runs import in_fresh_interpreters

SECTIONS: Final = {
    "hot-path": "the token for one call, beside other libraries",
    "threads": "the same from 8 and 32 threads",
    "gates": "the same behind every gate",
    "minting": "a new token",
    "verifying": "a token checked, the first time and again",
    "http-memory": "HTTP clients without a network",
    "http-loopback": "HTTP clients against a server on this machine",
    "concurrent": "20 slow calls at once through one auth object",
    "grpc": "gRPC calls of all four kinds, sync and aio",
    "edge": "verification in a proxy, beside the same proxy without it",
    "imports": "import time and memory, in fresh interpreters",
    "growth": "many audiences, many tokens",
}


RUNS: Final = 5
"""How many interpreters measure a section."""


def run_section(name: str, *, quick: bool, share: int = 1) -> list[Table]:
    """Measure one section, here."""
    module = import_module(f".{name.replace('-', '_')}", __package__)
    return list(module.tables(Bench(quick=quick, section=name, share=share)))


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for, and print it section by section."""
    listed = "\n".join(f"  {name:14} {what}" for name, what in SECTIONS.items())
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks",
        description="What auth costs, beside its floors and its peers.",
        epilog=f"sections:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("section", nargs="*", help="all of them by default")
    parser.add_argument(
        "--quick", action="store_true", help="prove that it runs; numbers mean nothing"
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the tables there (matplotlib)")
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)  # one of so many interpreters
    options = parser.parse_args(arguments)
    if unknown := set(options.section) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    logging.getLogger("manor_mcp_interceptors").addHandler(logging.NullHandler())
    measured: dict[str, list[Table]] = {}
    for name in options.section or SECTIONS:
        if options.quick or options.share:
            measured[name] = run_section(name, quick=options.quick, share=options.share or 1)
        else:
            measured[name] = in_fresh_interpreters(name, RUNS)
        print(f"\n== {name}: {SECTIONS[name]}\n")  # noqa: T201
        print("\n\n".join(as_text(table) for table in measured[name]), flush=True)  # noqa: T201
    if options.json:
        write_json(options.json, measured)
    if options.plot:
        write_plot(options.plot, [table for tables in measured.values() for table in tables])
    return 0


if __name__ == "__main__":
    sys.exit(main())
