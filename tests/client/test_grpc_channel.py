from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from manor_mcp_interceptors import grpc_authenticated_channel
from tests.support.grpc_clients import WatchedProvider, bearer
from tests.support.grpc_server import (
    KINDS,
    REQUESTS,
    SYNC_CALLS,
    GrpcServer,
    multi_callable,
)


class Recorder:
    """An inner channel that records what reaches it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def record(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self

        return record

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(("call", args, kwargs))
        return self

    def __enter__(self) -> Recorder:  # noqa: PYI034 - no subclasses
        self.calls.append(("enter", (), {}))
        return self

    def __exit__(self, *exc: object) -> bool:
        self.calls.append(("exit", exc, {}))
        return True


@pytest.fixture
def thin(server: GrpcServer, provider: WatchedProvider) -> Iterator[grpc.Channel]:
    with grpc_authenticated_channel(
        grpc.insecure_channel(server.target), provider=provider
    ) as channel:
        yield channel


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_of_a_stub_are_passed_on_unchanged(kind: str) -> None:
    """`_registered_method` reaches the inner channel if it was given, and only then."""
    inner = Recorder()
    channel = grpc_authenticated_channel(inner)  # type: ignore[arg-type]
    getattr(channel, kind)("/a/b", len, request_serializer=str, _registered_method=True)
    getattr(channel, kind)("/a/b")
    assert inner.calls == [
        (kind, ("/a/b", len), {"request_serializer": str, "_registered_method": True}),
        (kind, ("/a/b",), {}),
    ]


def test_the_methods_of_the_inner_channel() -> None:
    """Connectivity, closing and the context manager are those of the inner channel."""
    inner = Recorder()
    channel = grpc_authenticated_channel(inner)  # type: ignore[arg-type]
    channel.subscribe(print, try_to_connect=True)
    channel.unsubscribe(print)
    with channel as entered:
        assert entered is channel
        raise KeyError  # which the inner channel swallows
    channel.close()
    names = [name for name, _, _ in inner.calls]
    assert names == ["subscribe", "unsubscribe", "enter", "exit", "close"]
    assert inner.calls[0][1:] == ((print,), {"try_to_connect": True})


def test_it_is_a_channel(thin: grpc.Channel) -> None:
    """It is one to `isinstance`, as are its callables, and it reports when it is ready."""
    assert isinstance(thin, grpc.Channel)
    kinds = {
        "unary_unary": grpc.UnaryUnaryMultiCallable,
        "unary_stream": grpc.UnaryStreamMultiCallable,
        "stream_unary": grpc.StreamUnaryMultiCallable,
        "stream_stream": grpc.StreamStreamMultiCallable,
    }
    assert all(isinstance(multi_callable(thin, kind), kinds[kind]) for kind in KINDS)
    grpc.channel_ready_future(thin).result(timeout=10)


def test_closing_closes_the_inner_channel(server: GrpcServer) -> None:
    """After `close`, no call can be made."""
    thin = grpc_authenticated_channel(grpc.insecure_channel(server.target))
    thin.close()
    with pytest.raises(ValueError, match="closed"):
        multi_callable(thin, "unary_unary")(REQUESTS[0])


@pytest.mark.parametrize("positional", [False, True])
@pytest.mark.parametrize("name", SYNC_CALLS)
def test_every_option_is_passed_on(name: str, positional: bool) -> None:
    """All five options arrive, however they were passed, with the token in the metadata."""
    kind, _, how = name.partition(".")
    inner, provider = Recorder(), WatchedProvider()
    channel = grpc_authenticated_channel(inner, provider=provider)  # type: ignore[arg-type]
    method = getattr(channel, kind)("/a/b")
    options: dict[str, Any] = {
        "timeout": 5.0,
        "metadata": (("a", "1"),),
        "credentials": "credentials",
        "wait_for_ready": True,
        "compression": grpc.Compression.Gzip,
    }
    call = getattr(method, how) if how else method
    request = "request" if kind.startswith("unary") else "request_iterator"
    if positional:
        call("it", *options.values())
    else:
        call(**{request: "it"}, **options)
    options["metadata"] = (("a", "1"), ("authorization", bearer(provider.token())))
    options["timeout"] = pytest.approx(5.0, abs=3)  # less what the provider took
    arrived = [(args, sent) for what, args, sent in inner.calls if what == (how or "call")]
    assert arrived == [(("it",), options)]


def test_no_second_try_after_the_deadline(
    thin: grpc.Channel, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A call whose time is up is not sent again; the error is that of the first try."""
    provider.grow_stale()
    server.refuses = lambda value: True
    server.refuse_after = 0.5
    with pytest.raises(grpc.RpcError) as caught:
        multi_callable(thin, "unary_unary")(REQUESTS[0], timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(server.calls) <= 1


def test_a_failed_second_try_shows_no_token(
    thin: grpc.Channel, server: GrpcServer, provider: WatchedProvider
) -> None:
    """A traceback that prints the locals of this package prints neither token."""
    old = provider.grow_stale()
    server.refuses = lambda value: True
    with pytest.raises(grpc.RpcError) as caught:
        multi_callable(thin, "unary_unary")(REQUESTS[0], timeout=5)
    assert len(server.calls) == 2
    frames = traceback.walk_tb(caught.value.__traceback__)
    package = [f for f, _ in frames if f.f_globals["__name__"].startswith("manor_mcp_interceptors")]
    shown = repr([frame.f_locals for frame in package])
    assert package
    assert old not in shown
    assert str(provider.token()) not in shown


@pytest.mark.parametrize("name", [name for name in SYNC_CALLS if "with_call" not in name])
def test_what_is_no_complete_call_is_returned_unchanged(
    name: str, provider: WatchedProvider
) -> None:
    """The channel of another library may answer with any object."""
    answer = object()
    kind, _, how = name.partition(".")

    def inner(*_: Any, **__: Any) -> object:
        return answer

    inner.future = inner  # type: ignore[attr-defined]
    library: Any = SimpleNamespace(**{kind: lambda _: inner})
    made = getattr(grpc_authenticated_channel(library, provider=provider), kind)("/a/b")
    assert (made.future if how else made)(b"") is answer


def test_many_threads_share_a_callable(
    thin: grpc.Channel, server: GrpcServer, provider: WatchedProvider
) -> None:
    """One stub serves all threads, because it keeps nothing of a call."""
    method = multi_callable(thin, "unary_unary")
    ready = threading.Barrier(8)

    def work(number: int) -> None:
        ready.wait()
        for _ in range(10):
            method(b"x", timeout=10, metadata=(("x-thread", str(number)),))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = [dict(seen.metadata)["x-thread"] for seen in server.calls]
    assert sorted(sent) == sorted(str(number) for number in range(8) for _ in range(10))
    assert server.authorization == [[bearer(provider.token())]] * 80
