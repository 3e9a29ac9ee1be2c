"""The command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; return the exit status.

    Raises:
        SystemExit: Help was asked for (0), or the command is not known (2).
    """
    parser = argparse.ArgumentParser(
        prog="python -m manor_mcp_interceptors",
        description="Short-lived JWTs on outbound MCP calls.",
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    summary = "call real servers with every adapter, and show what they saw"
    commands.add_parser("demo", help=summary, description=f"The demo: {summary}.")
    parser.parse_args(arguments)
    return _demo()


def _demo() -> int:
    try:
        from ._demo.run import run  # needs every extra, the other commands none
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("manor_mcp_interceptors"):
            raise
        print(  # noqa: T201 - a command line talks
            f"The demo needs {error.name}: pip install 'manor-mcp-interceptors[all]'",
            file=sys.stderr,
        )
        return 2
    return run()
