"""What verification costs in a proxy: its own, that of the verifier it asks, and a service's."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.edge.proxies import KINDS, find, free_port, running, started
from tests.support import SECRET
from tests.support.auth_process import serve_auth

from ._harness import Bench, Row, Table
from ._http_server import http_server
from ._load import load
from .verifying import new_token

ROOT: Final = Path(__file__).parents[2]
ENVIRONMENT: Final = {"MCP_AUTH_SECRET": SECRET}
AT_ONCE: Final = 16
ADDED: Final = "what verification adds is the difference to the row above that verifies nothing"

OPEN: Final = {
    proxy: (name, partial(re.compile(verification, re.MULTILINE).sub, ""))
    for proxy, name, verification in (
        (
            "haproxy",
            "haproxy-forward",
            r"^ *(http-request|acl (allowed|unverified|forbidden)).*\n",
        ),
        ("nginx", "nginx-forward", r"^ *(auth_request|(proxy|grpc)_set_header X-MCP).*\n"),
        ("caddy", "caddy", r"^\t+import verified\n"),
        (
            "envoy",
            "envoy-forward",
            r"^ +- name: envoy.filters.http.ext_authz\n(.*\n)*?(?= +- name: envoy.*router)",
        ),
    )
}
"""A configuration of each proxy, and what removes the verification from its text."""
NAMES: Final = {
    "haproxy": "haproxy, by itself",
    "haproxy-forward": "haproxy, asks",
    "nginx": "nginx, by itself (njs)",
    "nginx-forward": "nginx, asks (auth_request)",
    "caddy": "caddy, asks (forward_auth)",
    "envoy": "envoy, by itself (jwt_authn)",
    "envoy-forward": "envoy, asks (ext_authz)",
}
SERVICES: Final = {
    "open_service": "haproxy and a Python service, nothing verified",
    "verifying_service": "haproxy and a Python service, TokenAuthMiddleware",
}


@dataclass(frozen=True)
class Way:
    """A way from the client to a service."""

    name: str
    floor: str
    """The name of the same way without verification."""
    address: str | None
    """``HOST:PORT``; None if the proxy is not installed."""

    def row(self, stack: ExitStack, headers: Mapping[str, str], at_once: int) -> Row:
        if self.address is None:
            return Row(self.name, None, against=self.floor)
        run = stack.enter_context(load(self.address, headers, at_once))
        return Row(self.name, run, "floor" if self.name == self.floor else "ours", self.floor)


def tables(bench: Bench) -> Iterator[Table]:
    """Compare each proxy with itself without verification; all of them run, one is called."""
    headers = {"Authorization": f"Bearer {new_token()}"}
    with ExitStack() as stack:
        ways = list(_ways(stack))
        for at_once, title, unit in (
            (1, "One call at a time through a proxy", "us"),
            (AT_ONCE, f"{AT_ONCE} calls at a time through a proxy", "1/s"),
        ):
            rows = [way.row(stack, headers, at_once) for way in ways]
            yield bench.compare(
                title,
                rows,
                unit=unit,  # type: ignore[arg-type]
                rounds=50,
                sample_seconds=0.1,
                notes=["client, proxy, verifier and service share the cores", ADDED],
            )


def _ways(stack: ExitStack) -> Iterator[Way]:
    auth = stack.enter_context(serve_auth(environment=ENVIRONMENT))
    start = _Start(stack, auth.url.removeprefix("http://"))
    service = stack.enter_context(_service())
    for proxy, (name, opened) in OPEN.items():
        floor = f"{proxy}, nothing verified"
        yield Way(floor, floor, start(name, service, opened))
        for each in (each for each in KINDS if each.partition("-")[0] == proxy):
            yield Way(NAMES[each], floor, start(each, service))
    name, opened = OPEN["haproxy"]
    for factory, title in SERVICES.items():
        service = stack.enter_context(_python_service(factory))
        yield Way(title, SERVICES["open_service"], start(name, service, opened))


@dataclass(frozen=True)
class _Start:
    stack: ExitStack
    auth: str

    def __call__(self, name: str, service: str, edit: Callable[[str], str] = str) -> str | None:
        """Return the address of a proxy before `service`; None if it is not installed."""
        if KINDS[name].missing:
            return None
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        proxy = running(
            name,
            folder,
            upstream=service,
            grpc_upstream=service,
            auth=self.auth,
            environ=ENVIRONMENT,
            edit=edit,
        )
        return self.stack.enter_context(proxy).http


@contextmanager
def _service() -> Iterator[str]:
    """Run the fastest service there is; yield its address."""
    if find("nginx") is None:
        with http_server() as url:
            yield url.split("/")[2]
        return
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "nginx.conf")
        file.write_text(
            f"daemon off; pid {folder}/pid; events {{}}"
            " http { access_log off; keepalive_requests 100000000;"
            f" server {{ listen {address}; location / {{ return 200 ok; }} }} }}"
        )
        command = ["nginx", "-c", str(file), "-e", "stderr"]
        with started(command, [address], Path(folder), os.environ):
            yield address


@contextmanager
def _python_service(factory: str) -> Iterator[str]:
    address = f"127.0.0.1:{free_port()}"
    place = f"{__package__}._edge_services:{factory}"
    command = [sys.executable, "-m", "uvicorn", place, "--factory", "--app-dir", str(ROOT)]
    command += ["--port", address.partition(":")[2], "--no-access-log", "--log-level", "warning"]
    environ = {**os.environ, **ENVIRONMENT}
    with (
        tempfile.TemporaryDirectory() as folder,
        started(command, [address], Path(folder), environ),
    ):
        yield address
