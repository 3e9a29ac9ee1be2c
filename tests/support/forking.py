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
from typing import Any

from manor_mcp_interceptors import MCPTokenProvider, _asking, get_token, provider
from manor_mcp_interceptors._decision import token_cache

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


class Held:
    """Stands for what is called under a lock, and holds the thread that calls it."""

    def __init__(self, module: Any, name: str) -> None:
        self.real = getattr(module, name)
        self.pid = os.getpid()
        self.begun = threading.Event()
        self.release = threading.Event()
        setattr(module, name, self)

    def __call__(self, *args: Any, **options: Any) -> Any:
        if os.getpid() == self.pid:  # not in the child
            self.begun.set()
            self.release.wait(30)
        return self.real(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class Gate:
    """Is asked in a worker thread."""

    def is_enabled(self, key: str, *, subject: str) -> bool:
        return True


def fork_while_locks_are_held() -> int:
    """Fork while other threads hold the lock of the registry, of the mint and of the flag."""
    MCPTokenProvider.configure(gate=Gate())
    before = get_token()
    held, threads = [], []
    for module, name, audience in (
        (token_cache, "mint", "other"),
        (provider, "Lease", "made-under-the-lock"),
        (_asking, "_Pending", None),
    ):
        held.append(Held(module, name))
        threads.append(threading.Thread(target=get_token, args=(audience,)))
        threads[-1].start()
        held[-1].begun.wait(30)
    code = fork(before)
    for each in held:
        each.release.set()
    for thread in threads:
        thread.join()
    return code if all(each.begun.is_set() for each in held) else 1


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
    codes.append(fork_while_locks_are_held())
    sys.stdout.write(f"{codes}\n")
    slow_machine = codes.count(SLOW) <= CHILDREN // 10
    return int(any(code != 0 and not (code == SLOW and slow_machine) for code in codes))


if __name__ == "__main__":
    sys.exit(main())
