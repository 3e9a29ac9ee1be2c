from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from functools import partial
from types import SimpleNamespace
from typing import Any

import grpc
import grpc_testing  # type: ignore[import-untyped]
import pytest

from manor_mcp_interceptors import GrpcAuthInterceptor, TokenUnavailableError
from tests.support.eventually import eventually
from tests.support.grpc_clients import WatchedProvider, bearer, sync_channel
from tests.support.grpc_server import KINDS, REQUESTS, SYNC_CALLS, GrpcServer, multi_callable

UNARY_UNARY = [name for name in SYNC_CALLS if name.startswith("unary_unary")]


@pytest.fixture(params=["interceptor", "thin"])
def channel(
    server: GrpcServer, provider: WatchedProvider, request: pytest.FixtureRequest
) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as bare:
        yield sync_channel(request.param, bare, provider=provider)


both = pytest.mark.parametrize("mode", ["interceptor", "thin"])


def future(channel: grpc.Channel, **options: Any) -> Any:
    return multi_callable(channel, "unary_unary").future(REQUESTS[0], timeout=10, **options)


def test_future_does_not_block(channel: grpc.Channel, server: GrpcServer) -> None:
    """A future is returned at once, and answers as grpc's does while the server is busy."""
    server.open.clear()
    call = future(channel)
    assert server.hanging.wait(5)
    assert call.running()
    assert call.is_active()
    assert not call.done()
    assert not call.cancelled()
    assert 0 < call.time_remaining() <= 10
    with pytest.raises(grpc.FutureTimeoutError):
        call.result(timeout=0)
    server.open.set()
    assert ("initial", "here") in list(call.initial_metadata())
    assert call.result(10) == REQUESTS[0]
    assert call.exception() is None
    assert call.traceback() is None
    assert call.code() is grpc.StatusCode.OK
    assert call.details() == ""
    assert list(call.trailing_metadata()) == []
    assert call.done()
    assert not call.running()
    assert not call.cancel()
    assert not call.add_callback(lambda: None)


def test_a_failed_future(channel: grpc.Channel, server: GrpcServer) -> None:
    """Every method reports a refusal that stands."""
    server.refuses = lambda value: True
    call = future(channel)
    error = call.exception(10)
    assert isinstance(error, grpc.RpcError)
    assert call.traceback(10) is not None
    assert call.code() is grpc.StatusCode.UNAUTHENTICATED
    assert call.details() == "no"
    assert "no" in call.debug_error_string()
    with pytest.raises(grpc.RpcError):
        call.result(10)


def test_done_callbacks(
    channel: grpc.Channel, server: GrpcServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Each gets the future of the caller, once; one that raises stops no other."""
    server.open.clear()
    called: list[Any] = []
    finished = threading.Event()
    call = future(channel)
    call.add_done_callback(lambda done: 1 / 0)
    call.add_done_callback(called.append)
    call.add_done_callback(lambda done: finished.set())
    assert called == []
    server.open.set()
    assert finished.wait(10)
    call.add_done_callback(called.append)
    assert called == [call, call]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_cancelling_reaches_the_server(
    kind: str, channel: grpc.Channel, server: GrpcServer
) -> None:
    """Cancelling ends the call at the client and at the server."""
    server.open.clear()
    method = multi_callable(channel, kind)
    request = REQUESTS[0] if kind.startswith("unary") else iter(REQUESTS)
    call = (method if kind.endswith("stream") else method.future)(request, timeout=10)
    assert server.hanging.wait(5)
    assert call.cancel()
    assert call.cancelled()
    assert call.done()
    assert not call.cancel()
    assert call.code() is grpc.StatusCode.CANCELLED
    assert "cancelled" in call.details()
    with pytest.raises(grpc.FutureCancelledError):
        call.result(10)
    assert server.cancelled.wait(5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_dropped_call_is_cancelled(kind: str, channel: grpc.Channel, server: GrpcServer) -> None:
    """A call that nobody holds is cancelled, as it is without an adapter."""
    server.open.clear()
    method = multi_callable(channel, kind)
    request = REQUESTS[0] if kind.startswith("unary") else iter(REQUESTS)
    call = (method if kind.endswith("stream") else method.future)(request, timeout=10)
    assert server.hanging.wait(5)
    del call
    gc.collect()
    assert server.cancelled.wait(5)


def test_a_call_dropped_in_its_second_try_is_cancelled(
    channel: grpc.Channel, server: GrpcServer, provider: WatchedProvider
) -> None:
    """The same holds for a call that is sent a second time."""
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    server.open.clear()
    call = future(channel)
    assert server.hanging.wait(5)
    assert call.running()
    del call
    gc.collect()
    assert server.cancelled.wait(5)


def test_a_dropped_future_with_a_callback_lives(channel: grpc.Channel, server: GrpcServer) -> None:
    """A future with a done callback continues without a holder, as grpc's does."""
    server.open.clear()
    results: futures.Future[bytes] = futures.Future()
    call = future(channel)
    call.add_done_callback(lambda done: results.set_result(done.result()))
    assert server.hanging.wait(5)
    del call
    gc.collect()
    server.open.set()
    assert results.result(10) == REQUESTS[0]


def test_a_stream_is_not_awaited(channel: grpc.Channel, server: GrpcServer) -> None:
    """The first message of a stream arrives before the server has ended the stream."""
    server.open.clear()
    stream = multi_callable(channel, "stream_stream")(iter(REQUESTS), timeout=10)
    assert next(stream) == REQUESTS[0]
    assert stream.is_active()
    server.open.set()
    assert list(stream) == list(REQUESTS[1:])


@both
def test_a_single_threaded_stream(mode: str, server: GrpcServer, provider: WatchedProvider) -> None:
    """The other implementation of unary-stream in grpc is watched too."""
    option = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)  # type: ignore[attr-defined]
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    with grpc.insecure_channel(server.target, options=[option]) as bare:
        channel = sync_channel(mode, bare, provider=provider)
        with pytest.raises(grpc.RpcError):
            SYNC_CALLS["unary_stream"](channel)
        assert provider.refused.get(timeout=5) == old
        assert SYNC_CALLS["unary_stream"](channel) == REQUESTS[0]


class Recorder(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Records the details of each call that passes."""

    def __init__(self) -> None:
        self.details: list[Any] = []

    def _note(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.details.append(client_call_details)
        return continuation(client_call_details, request)

    intercept_unary_unary = intercept_unary_stream = _note
    intercept_stream_unary = intercept_stream_stream = _note  # type: ignore[assignment]


@pytest.mark.parametrize("name", SYNC_CALLS)
def test_all_six_fields_survive(name: str, server: GrpcServer, provider: WatchedProvider) -> None:
    """The caller's options pass through, also at a second try, with less time left."""
    credentials = grpc.access_token_call_credentials("unused")
    asked = {
        "timeout": 9.0,
        "credentials": credentials,
        "wait_for_ready": True,
        "compression": grpc.Compression.Gzip,
    }
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    recorder = Recorder()
    with grpc.insecure_channel(server.target) as bare:
        adapter = GrpcAuthInterceptor(provider=provider)
        channel = grpc.intercept_channel(bare, adapter, recorder, Bare())
        if name in UNARY_UNARY:
            SYNC_CALLS[name](channel, metadata=(("a", "1"),), **asked)
        else:
            with pytest.raises(grpc.RpcError):
                SYNC_CALLS[name](channel, metadata=(("a", "1"),), **asked)
    assert len(recorder.details) == (2 if name in UNARY_UNARY else 1)
    left = [details.timeout for details in recorder.details]
    assert 9.0 >= left[0] > 5.0
    assert sorted(set(left), reverse=True) == left
    for details in recorder.details:
        assert details.method.endswith(name.partition(".")[0])
        assert details.credentials is credentials
        assert details.wait_for_ready is True
        assert details.compression is grpc.Compression.Gzip
        assert details.metadata[0] == ("a", "1")
        assert [key for key, _ in details.metadata] == ["a", "authorization"]


class Bare(Recorder):
    """Removes the call credentials, which would need a secure channel."""

    def _note(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        method, timeout, metadata, _, *rest = client_call_details
        bare = type(client_call_details)(method, timeout, metadata, None, *rest)
        return continuation(bare, request)

    intercept_unary_unary = intercept_unary_stream = _note
    intercept_stream_unary = intercept_stream_stream = _note


class Waiting(Recorder):
    """Waits for each unary call, as careless interceptors do; also in a future."""

    def _wait(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = continuation(client_call_details, request)
        call.code()
        return call

    intercept_unary_unary = intercept_stream_unary = _wait


@pytest.mark.parametrize("name", SYNC_CALLS)
@pytest.mark.parametrize("order", ["adapter first", "adapter last"])
@both
def test_beside_other_interceptors(
    name: str, mode: str, order: str, server: GrpcServer, provider: WatchedProvider
) -> None:
    """Before or after one that waits for its calls, refusals are repaired and nothing hangs."""
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    with grpc.insecure_channel(server.target) as bare:
        if order == "adapter first":
            behind = grpc.intercept_channel(bare, Waiting())
            channel = sync_channel(mode, behind, provider=provider)
        else:
            channel = grpc.intercept_channel(sync_channel(mode, bare, provider=provider), Waiting())
        if name not in UNARY_UNARY:
            with pytest.raises(grpc.RpcError):
                SYNC_CALLS[name](channel, timeout=10)
            provider.refused.get(timeout=5)
        SYNC_CALLS[name](channel, timeout=10)
    assert server.authorization == [[bearer(old)], [bearer(provider.token())]]


@pytest.mark.slow
@pytest.mark.parametrize("name", UNARY_UNARY)
def test_a_second_try_has_what_is_left_of_the_timeout(
    name: str, channel: grpc.Channel, server: GrpcServer, provider: WatchedProvider
) -> None:
    """After a slow refusal, the second try ends when the caller's timeout does."""
    provider.grow_stale()
    server.refuses = lambda value: True
    server.refuse_after = 0.8
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        SYNC_CALLS[name](channel, timeout=1.2)
    assert time.monotonic() - started < 1.7  # 2.0 if the second try had its own
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(server.calls) == 2
    assert server.calls[1].time_remaining is not None
    assert server.calls[1].time_remaining < 0.6


class SlowProvider(WatchedProvider):
    """A provider that renews a token when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.renewing = threading.Event()
        self.go_on = threading.Event()

    def invalidate(self, token: str) -> None:
        self.renewing.set()
        self.go_on.wait(10)
        super().invalidate(token)


@both
@pytest.mark.parametrize("others", [(), (Waiting(),)], ids=["alone", "refused at once"])
def test_renewing_holds_up_no_other_call(mode: str, others: Any, server: GrpcServer) -> None:
    """While a token is renewed, the future can be cancelled, and its channel serves others."""
    provider = SlowProvider()
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    with grpc.insecure_channel(server.target) as bare:
        behind = grpc.intercept_channel(bare, *others) if others else bare
        call = future(sync_channel(mode, behind, provider=provider))
        assert provider.renewing.wait(5)
        assert not call.done()
        assert future(bare).result(5) == REQUESTS[0]
        assert call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
        assert "cancelled" in call.details()
        with pytest.raises(grpc.FutureCancelledError):
            call.result(5)
        with pytest.raises(grpc.FutureCancelledError):
            call.exception(5)
        if not others:  # the other interceptor would keep the second try until it has ended
            server.open.clear()
        provider.go_on.set()
        assert eventually(lambda: provider.stats().retries == 1)
        assert not server.hanging.wait(0.2) or server.cancelled.wait(5)


@both
def test_a_channel_closed_meanwhile(mode: str, server: GrpcServer) -> None:
    """If the second try cannot be started, the refusal stands."""
    provider = SlowProvider()
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    with grpc.insecure_channel(server.target) as bare:
        call = future(sync_channel(mode, bare, provider=provider))
        assert provider.renewing.wait(5)
    provider.go_on.set()
    assert call.exception(5).code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("name", UNARY_UNARY)
def test_many_threads_with_one_stale_token(
    name: str,
    channel: grpc.Channel,
    server: GrpcServer,
    provider: WatchedProvider,
    mints: list[Any],
) -> None:
    """Fifty threads with the same refusal all get their response, and one token is minted."""
    old = provider.grow_stale()
    server.refuses = lambda value: value == bearer(old)
    server.refuse_after = 0.05
    mints.clear()
    barrier = threading.Barrier(50)

    def run() -> bytes:
        barrier.wait(10)
        return SYNC_CALLS[name](channel, timeout=10)

    with futures.ThreadPoolExecutor(50) as pool:
        results = [task.result() for task in [pool.submit(run) for _ in range(50)]]
    assert results == [REQUESTS[0]] * 50
    assert len(mints) == 1
    assert len(server.calls) <= 100


@pytest.mark.parametrize("name", SYNC_CALLS)
@pytest.mark.parametrize(
    "metadata", [(("x", "ümläut"),), (("X-Upper", "v"),), (1,)], ids=["value", "key", "shape"]
)
def test_what_cannot_be_sent(
    name: str, metadata: Any, channel: grpc.Channel, server: GrpcServer
) -> None:
    """Metadata that gRPC refuses ends the call as it does without an adapter."""
    metadata = (*metadata, ("other", "entry"))  # before 1.81, grpcio formats one and two otherwise
    with grpc.insecure_channel(server.target) as bare:
        outcomes = [
            _outcome(partial(SYNC_CALLS[name], each, timeout=5, metadata=metadata))
            for each in (bare, channel)
        ]
    assert outcomes[0] == outcomes[1]
    assert server.calls == []


def _outcome(call: Callable[[], bytes]) -> Any:
    try:
        return call()
    except grpc.RpcError as error:
        return error.code()
    except Exception as error:
        return type(error)


def test_a_request_that_cannot_be_encoded(channel: grpc.Channel, provider: WatchedProvider) -> None:
    """A serializer that raises ends the call as without an adapter: INTERNAL, and no hang."""
    method: Any = channel.unary_unary(
        "/test.Echo/unary_unary", lambda request: 1 / 0, lambda response: response
    )
    for call in (method, method.with_call, lambda r: method.future(r).result(5)):
        with pytest.raises(grpc.RpcError) as caught:
            call(b"")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert provider.refused.empty()


@both
@pytest.mark.parametrize("kind", KINDS)
def test_a_required_token_is_missing(kind: str, mode: str, server: GrpcServer) -> None:
    """The failed call answers every question of a caller, and nothing is sent."""
    with grpc.insecure_channel(server.target) as bare:
        channel = sync_channel(mode, bare, provider=WatchedProvider(on=False), required=True)
        method = multi_callable(channel, kind)
        call = (method if kind.endswith("stream") else method.future)(REQUESTS[0])
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "flag" in call.details()
        assert isinstance(call.exception(), TokenUnavailableError)
        for ask in (call.result, lambda: next(call)):
            with pytest.raises(TokenUnavailableError):
                ask()
        assert call.traceback() is not None
        called: list[Any] = []
        call.add_done_callback(called.append)
        assert called == [call]
        assert call.done()
        assert not any([call.running(), call.is_active(), call.cancel(), call.cancelled()])
        assert not call.add_callback(lambda: None)
        assert call.time_remaining() is None
        assert list(call.initial_metadata()) == list(call.trailing_metadata()) == []
        assert iter(call) is call
    assert server.calls == []


def test_no_thread_for_a_second_try(
    channel: grpc.Channel,
    server: GrpcServer,
    provider: WatchedProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no thread can be started, the refusal stands, and the caller does not wait for ever."""

    def no_thread(**_: Any) -> Any:
        raise RuntimeError("can't start new thread")

    limited = SimpleNamespace(Thread=no_thread, Condition=threading.Condition)
    monkeypatch.setattr("manor_mcp_interceptors.client._grpc_retry.threading", limited)
    provider.grow_stale()
    server.refuses = lambda value: True
    call = future(channel)
    assert call.exception(10).code() is grpc.StatusCode.UNAUTHENTICATED
    assert not call.cancel()
    assert not call.cancelled()
    assert len(server.calls) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_with_grpcio_testing(kind: str, provider: WatchedProvider) -> None:
    """The interceptor works on a channel of grpcio-testing, which is not a real one."""
    fake = grpc_testing.channel([], grpc_testing.strict_real_time())

    # Not through intercept_channel: grpcio-testing's calls lack arguments that it passes.
    def continuation(details: Any, request: Any) -> Any:
        method = getattr(fake, kind)(details.method)
        send = method if kind.endswith("stream") else method.future
        return send(request, metadata=details.metadata)

    details = SimpleNamespace(method=f"/test.Echo/{kind}", timeout=5.0, metadata=[("a", "1")])
    intercept = getattr(GrpcAuthInterceptor(provider=provider), f"intercept_{kind}")
    call = intercept(continuation, details, REQUESTS[0] if kind.startswith("unary") else iter(()))
    descriptor = SimpleNamespace(
        name=kind, containing_service=SimpleNamespace(full_name="test.Echo")
    )
    sent, *_, rpc = getattr(fake, f"take_{kind}")(descriptor)
    assert sent[:2] == (("a", "1"), ("authorization", bearer(provider.token())))
    rpc.send_initial_metadata(())
    if kind.endswith("stream"):
        rpc.send_response(b"answer")
        assert next(call) == b"answer"
    else:
        rpc.terminate(b"answer", (), grpc.StatusCode.OK, "")
        assert call.result() == b"answer"


def test_foreign_call_details(server: GrpcServer, provider: WatchedProvider) -> None:
    """Call details of another interceptor's class keep all their attributes."""

    class Details(grpc.ClientCallDetails):
        method = "/test.Echo/unary_unary"
        metadata = (("a", "1"),)
        extra = "kept"

    passed: list[Any] = []

    def continuation(details: Any, request: bytes) -> Any:
        passed.append(details)
        return grpc.RpcError()  # not a call: it is returned as it is

    adapter = GrpcAuthInterceptor(provider=provider)
    result = adapter.intercept_unary_unary(continuation, Details(), b"")
    assert isinstance(result, grpc.RpcError)
    assert isinstance(adapter.intercept_unary_stream(continuation, Details(), b""), grpc.RpcError)
    for details in passed:
        assert details.extra == "kept"
        assert not hasattr(details, "timeout")
        assert details.metadata == (("a", "1"), ("authorization", bearer(provider.token())))
