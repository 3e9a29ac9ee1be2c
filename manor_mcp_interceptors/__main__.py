"""``python -m manor_mcp_interceptors``, and the console script ``manor-mcp``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        from ._cli.commands import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"typer", "rich"}:
            raise
        line = f"The command line needs {missing}: pip install 'manor-mcp-interceptors[cli]'"
        sys.stderr.write(f"{line}\n")
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
