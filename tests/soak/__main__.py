"""``python -m tests.soak --seconds 60``: ends with 0 if no call was lost and nothing grew."""

from __future__ import annotations

import argparse
import logging
import sys

from .run import soak


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the flag's troubles are part of the plan
    result = soak(options.seconds, say)
    say(result.report())
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
