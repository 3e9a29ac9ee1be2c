"""Call a gRPC method of any kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
