"""Call a gRPC method of any kind, or hold a stream open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import grpc

SECONDS = 10.0
MESSAGES = (b"one", b"two", b"three")


def call(channel: grpc.Channel, kind: str, metadata: Iterable[tuple[str, str]]) -> str | None:
    """Return the name of the status of a failed call; None if it ended well."""
    method = f"/edge.Echo/{kind}"
    options: dict[str, Any] = {"metadata": tuple(metadata), "timeout": SECONDS}
    calls: dict[str, Callable[[], object]] = {
        "Unary": lambda: channel.unary_unary(method, None, None)(b"one", **options),
        "ServerStream": lambda: list(channel.unary_stream(method, None, None)(b"one", **options)),
        "ClientStream": lambda: channel.stream_unary(method, None, None)(iter(MESSAGES), **options),
        "Bidi": lambda: list(channel.stream_stream(method, None, None)(iter(MESSAGES), **options)),
    }
    try:
        answer = calls[kind]()
    except grpc.RpcError as error:
        return str(error.code().name)
    expected = {"Unary": b"one", "ClientStream": b"".join(MESSAGES), "Bidi": list(MESSAGES)}
    assert answer == expected.get(kind, [b"one"] * 3)
    return None


@contextmanager
def held_stream(address: str, metadata: Iterable[tuple[str, str]]) -> Iterator[Callable[[], str]]:
    """Hold a stream open; yield what sends a message and returns ``passed`` or a status."""
    messages: SimpleQueue[bytes | None] = SimpleQueue()

    def echo() -> str:
        messages.put(b"one")
        try:
            return "passed" if next(answers) == b"one" else "another message"
        except grpc.RpcError as error:
            return str(error.code().name)

    with grpc.insecure_channel(address) as channel:
        method = channel.stream_stream("/edge.Echo/Bidi", None, None)
        answers = iter(method(iter(messages.get, None), metadata=tuple(metadata)))
        try:
            yield echo
        finally:
            messages.put(None)
