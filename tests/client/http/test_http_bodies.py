"""The body of a second try: the same bytes, or no second try."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from tests.support.http_clients import (
    ASYNC,
    HTTPX,
    SYNC,
    TestProvider,
    call,
    make_auth,
    part_options,
)
from tests.support.http_server import HttpServer, refusing

PAYLOAD = b"line 1\nline 2\n"
FILES = [*SYNC, "aiohttp"]
"""The clients that take a file."""


def temporary_file(made: Any) -> Any:
    made.write(PAYLOAD)
    made.seek(0)
    return made


class Readable:
    """What is read like a file, once; subclasses add a position that is not to be trusted."""

    def __init__(self) -> None:
        self.file = io.BytesIO(PAYLOAD)

    def __len__(self) -> int:
        return len(PAYLOAD)

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(4), b"")

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    def close(self) -> None:
        self.file.close()


class WithoutPosition(Readable):
    """As the encoders of requests-toolbelt are."""


class NoneAsPosition(Readable):
    def tell(self) -> None:
        return None

    def seek(self, *_: object) -> None:
        """Do nothing."""


class SeekDoesNothing(Readable):
    def tell(self) -> int:
        return self.file.tell()

    def seek(self, *_: object) -> int:
        return len(PAYLOAD)


class PretendsToSeek(Readable):
    """The position is a number that nothing follows."""

    position = 0

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = len(PAYLOAD) if whence else offset
        return self.position


class AsyncPosition(Readable):
    """It is read as a file, and asked for its position as an asynchronous one."""

    def __init__(self) -> None:
        super().__init__()
        self.file = temporary_file(tempfile.TemporaryFile())  # noqa: SIM115 - the test closes it

    def fileno(self) -> int:  # so that httpx does not ask for the position itself
        return self.file.fileno()

    async def tell(self) -> int:
        return self.file.tell()

    async def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)


class AsyncSeek(AsyncPosition):
    def tell(self) -> int:  # type: ignore[override]
        return self.file.tell()


class ClosedAtItsEnd(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data:
            self.close()
        return data


class SeekFailsAtItsEnd(io.BytesIO):
    ended = False

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.ended = data == b""
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if self.ended:
            raise OSError("it went away")
        return super().seek(offset, whence)


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation


def stream(library: Any) -> Any:
    """Return a stream of the application's; only its name is one that the library uses too."""

    class Stream(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc]
        _stream: tuple[bytes, ...] = (b"something else",)
        parts = iter([PAYLOAD])

        def __iter__(self) -> Iterator[bytes]:
            return self.parts

    return Stream()


def pipe() -> Any:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as end:
        end.write(PAYLOAD)
    return os.fdopen(reading, "rb")


Case = tuple[list[str], bool, Callable[[], Any]]
CONTENT: dict[str, Case] = {
    "a named temporary file": (
        SYNC,
        True,
        lambda: temporary_file(tempfile.NamedTemporaryFile()),  # noqa: SIM115 - the test closes it
    ),
    "a spooled file": (
        SYNC,
        True,
        lambda: temporary_file(tempfile.SpooledTemporaryFile(8)),  # noqa: SIM115 - as above
    ),
    "gzip": (FILES, True, lambda: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(PAYLOAD)))),
    "a text file": (["requests", "aiohttp"], True, lambda: io.StringIO(PAYLOAD.decode())),
    "an encoded text file": (
        ["aiohttp"],
        True,
        lambda: io.TextIOWrapper(io.BytesIO(PAYLOAD), encoding="ascii"),
    ),
    "a list": (["httpx", "httpx2"], True, lambda: [PAYLOAD[:3], PAYLOAD[3:]]),
    "a tuple": (["httpx", "httpx2"], True, lambda: (PAYLOAD[:3], PAYLOAD[3:])),
    "an iterable with a length": (SYNC, False, WithoutPosition),
    "None as position": (["httpx"], False, NoneAsPosition),
    "a seek that does nothing": (SYNC, False, SeekDoesNothing),
    "a seek that pretends": (SYNC, False, PretendsToSeek),
    "an awaitable position": (["httpx"], False, AsyncPosition),
    "an awaitable seek": (["httpx"], False, AsyncSeek),
    "a file that closes": (SYNC, False, lambda: ClosedAtItsEnd(PAYLOAD)),
    "a file that goes away": (SYNC, False, lambda: SeekFailsAtItsEnd(PAYLOAD)),
    "a pipe": (SYNC, False, lambda: Pipe(PAYLOAD)),
    "a pipe of the system": (["aiohttp"], False, pipe),
    "an async file": (ASYNC, False, lambda: anyio.wrap_file(io.BytesIO(PAYLOAD))),
}
PARTS: dict[str, Case] = {
    "a part without a position": (HTTPX, False, WithoutPosition),
    "a part whose seek does nothing": (HTTPX, False, SeekDoesNothing),
    "a part that closes": ([*HTTPX, "aiohttp"], False, lambda: ClosedAtItsEnd(PAYLOAD)),
    "a part that is a pipe": (HTTPX, False, lambda: Pipe(PAYLOAD)),
    "a part that is a pipe of the system": (["aiohttp"], False, pipe),
}
CELLS = [(client, name) for name, case in {**CONTENT, **PARTS}.items() for client in case[0]]


@pytest.mark.parametrize(("client", "name"), CELLS)
def test_a_body_is_sent_again_byte_for_byte_or_not_at_all(
    client: str, name: str, running: HttpServer
) -> None:
    """Whatever its methods promise: without a second try the caller gets the 401."""
    provider = TestProvider()
    running.start_over(refusing(provider.stale_token()))
    _, is_sent_again, make = {**CONTENT, **PARTS}[name]
    body = make()
    content = "content" if client in HTTPX else "data"
    options = part_options(client, body) if name in PARTS else {content: body}
    reply = call(client, make_auth(client, provider=provider), "POST", running.url, **options)
    getattr(body, "close", bool)()
    bodies = [seen.body for seen in running.seen]
    assert PAYLOAD in bodies[0]
    assert bodies == bodies[:1] * (2 if is_sent_again else 1)
    assert reply.status == (200 if is_sent_again else 401)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_stream_of_the_application_is_sent_once(library: Any, running: HttpServer) -> None:
    """Nobody knows what a second reading yields."""
    provider = TestProvider()
    running.start_over(refusing(provider.stale_token()))
    with library.Client(auth=make_auth(library.__name__, provider=provider)) as client:
        headers = {"Content-Length": str(len(PAYLOAD)), "Host": "a"}
        request = library.Request("POST", running.url, stream=stream(library), headers=headers)
        assert client.send(request).status_code == 401
    assert [seen.body for seen in running.seen] == [PAYLOAD]


@pytest.mark.parametrize("client", FILES)
def test_an_empty_file_is_sent_once(client: str, running: HttpServer) -> None:
    """It looks like one that is used up."""
    provider = TestProvider()
    running.start_over(refusing(provider.stale_token()))
    options: dict[str, Any] = {"content" if client in HTTPX else "data": io.BytesIO()}
    reply = call(client, make_auth(client, provider=provider), "POST", running.url, **options)
    assert (reply.status, len(running.seen)) == (401, 1)
