"""A gRPC server in a process of its own, so that its CPU time is not the client's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from ._cores import pin

SERVICE = "bench.Echo"
REQUESTS = (b"one", b"two", b"three")


@contextmanager
def grpc_server(core: int | None = None) -> Iterator[str]:
    """Run the server, on `core` where one is given; yield its address."""
    command = [sys.executable, "-m", __name__, *([] if core is None else [str(core)])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def main() -> None:
    """Serve until standard input ends."""
    for core in sys.argv[1:]:
        pin(int(core))
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handlers = {
        "unary_unary": grpc.unary_unary_rpc_method_handler(_one),
        "unary_stream": grpc.unary_stream_rpc_method_handler(_many),
        "stream_unary": grpc.stream_unary_rpc_method_handler(_join),
        "stream_stream": grpc.stream_stream_rpc_method_handler(_same),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)  # noqa: T201
    server.start()
    sys.stdin.read()
    server.stop(None).wait()


def _one(request: bytes, _context: Any) -> bytes:
    return request


def _many(_request: bytes, _context: Any) -> Iterator[bytes]:
    yield from REQUESTS


def _join(requests: Iterator[bytes], _context: Any) -> bytes:
    return b"".join(requests)


def _same(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
    yield from requests


if __name__ == "__main__":
    main()
