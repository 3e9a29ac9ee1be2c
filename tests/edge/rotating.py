"""The runbook of a rotation, as docs/edge.md has it for each proxy, and calls meanwhile."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from .grpc_calls import call
from .http_calls import send
from .proxies import Proxy, write_configuration
from .tokens import token

DEADLINE_SECONDS: Final = 15.0


@dataclass(frozen=True)
class SecretFiles:
    """The two files of docs/rotation.md."""

    directory: Path

    @property
    def environ(self) -> dict[str, str]:
        return {
            "MCP_AUTH_SECRET_FILE": str(self.directory / "mcp"),
            "MCP_AUTH_PREVIOUS_SECRET_FILE": str(self.directory / "mcp-previous"),
            "MCP_AUTH_RECHECK_SECONDS": "0.1",
        }

    def write(self, name: str, *secrets: str) -> None:
        """Replace a file by rename."""
        new = self.directory / f"{name}.tmp"
        new.write_text("".join(f"{secret}\n" for secret in secrets))
        os.replace(new, self.directory / name)


class Runbook:
    """Replaces `old` by `new` at one proxy."""

    def __init__(self, proxy: Proxy, files: SecretFiles, old: str, new: str) -> None:
        self._proxy = proxy
        self._files = files
        self._old = old
        self._new = new

    def accept_the_new_secret(self) -> None:
        """Do step 1."""
        self._files.write("mcp-previous", self._old, self._new)
        self._tell_haproxy(f"set var proc.mcp_previous str({self._new})")
        self._make_envoy_read()

    def sign_with_the_new_secret(self) -> None:
        """Do step 2: a proxy accepts both, in whatever order."""
        self._files.write("mcp", self._new)
        self._make_envoy_read()

    def forget_the_old_secret(self) -> None:
        """Do step 3."""
        (self._files.directory / "mcp-previous").unlink()
        self._tell_haproxy(f"set var proc.mcp_current str({self._new})")
        self._tell_haproxy("set var proc.mcp_previous str(none)")
        self._make_envoy_read()

    def _tell_haproxy(self, command: str) -> None:
        if self._proxy.kind.name == "haproxy":
            with socket.socket(socket.AF_UNIX) as admin:
                admin.connect(str(self._proxy.admin_socket))
                admin.sendall(f"experimental-mode on; {command}\n".encode())
                answer = admin.makefile().read()
            assert answer.strip() == "", answer

    def _make_envoy_read(self) -> None:
        if self._proxy.kind.name == "envoy":
            write_configuration(self._proxy)


@dataclass
class Load:
    """Calls without end, signed with one secret at a time."""

    proxy: Proxy
    secret: str
    refused: list[str] = field(default_factory=list)
    calls: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Call until the context ends."""
        threads = [threading.Thread(target=run) for run in (self._http, self._http, self._grpc)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def let_pass(self, calls: int) -> None:
        """Wait until so many more calls were made."""
        goal = self.calls + calls
        until(lambda: self.calls >= goal)

    def _http(self) -> None:
        while not self._ended.is_set():
            status = send(
                self.proxy.http, [("Authorization", f"Bearer {token(secret=self.secret)}")]
            )
            self._note(None if status == 200 else f"HTTP {status}")

    def _grpc(self) -> None:
        with grpc.insecure_channel(self.proxy.grpc) as channel:
            while not self._ended.is_set():
                self._note(call(channel, "Unary", bearer(self.secret)))

    def _note(self, problem: str | None) -> None:
        self.calls += 1
        if problem is not None:
            self.refused.append(problem)


def bearer(secret: str) -> list[tuple[str, str]]:
    """Return metadata with a token that `secret` has signed."""
    return [("authorization", f"Bearer {token(secret=secret)}")]


def opens(proxy: Proxy, secret: str) -> bool:
    """Return whether a token that `secret` has signed is accepted, by HTTP and gRPC alike."""
    status = send(proxy.http, [("Authorization", f"Bearer {token(secret=secret)}")])
    with grpc.insecure_channel(proxy.grpc) as channel:
        code = call(channel, "Unary", bearer(secret))
    assert (status == 200) == (code is None), (status, code)
    return status == 200


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
