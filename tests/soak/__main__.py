"""``python -m tests.soak --seconds 60``: ends with 0 if no call was lost and nothing grew.

Then, for as long, enforcement is turned on and off: ends with 0 if every call met the right mode.
At last a ring of services, each a process, leaves its shared secret for keys: about a minute.
"""

from __future__ import annotations

import argparse
import logging
import sys

from .enforcement import enforcement_soak
from .migration import migration_soak
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
    enforcement = enforcement_soak(options.seconds)
    say(enforcement.report())
    migration = migration_soak(say)
    say(migration.report())
    return 0 if result.is_good and enforcement.is_good and migration.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
