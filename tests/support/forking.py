"""A small process that forks under load: ``python -m tests.support.forking``.

Threads call with a lease of no length, so that locks are held most of the time; a child prints
nothing and ends with 0 if it got a token, and with 3 if that took more than a second.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from manor_mcp_interceptors import MCPTokenProvider, get_token
from manor_mcp_interceptors.provider import _registry

CHILDREN = 50
SLOW = 3


def call_until(stop: threading.Event, audience: str | None) -> None:
    while not stop.is_set():
        get_token(audience)


def child(before: str | None) -> int:
    began = time.monotonic()
    inherited, fresh = get_token(), get_token(f"of-process-{os.getpid()}")
    os.environ["MCP_AUTH_SECRET"] = "another secret, for this child alone, of no use"
    renewed = get_token()  # the lock for a mint must be free as well
    if inherited != before or fresh is None or renewed in (None, before):
        return 1
    return 0 if time.monotonic() - began < 1.0 else SLOW


def fork(before: str | None) -> int:
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a child that hangs must not outlive the test
        code = 2
        try:
            code = child(before)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> int:
    before = get_token()
    stop = threading.Event()
    threads = [threading.Thread(target=call_until, args=(stop, a)) for a in (None, "other")]
    for thread in threads:
        thread.start()
    codes = [fork(before) for _ in range(CHILDREN)]
    stop.set()
    for thread in threads:
        thread.join()
    provider = MCPTokenProvider.get_instance()
    setup = provider._setup
    with provider._lock, setup.lock, setup.flags._wake, _registry.lock:
        codes.append(fork(before))  # as if another thread held every lock there is
    sys.stdout.write(f"{codes}\n")
    slow_machine = codes.count(SLOW) <= CHILDREN // 10
    return int(any(code != 0 and not (code == SLOW and slow_machine) for code in codes))


if __name__ == "__main__":
    sys.exit(main())
