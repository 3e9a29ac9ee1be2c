"""The gRPC server interceptors, sync and aio: all four kinds of call, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer as AioHealthServicer
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    MCPTokenProvider,
    Settings,
    TokenVerifier,
    grpc_aio_interceptors,
)
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import (
    GrpcAuthServerInterceptor,
    current_caller,
)
from tests.server.callers import CASES, PHRASE, SUBJECT, Case, token, verifier
from tests.server.grpc_services import (
    KINDS,
    AioService,
    SyncInAio,
    SyncService,
    aio_server,
    call,
    sync_server,
    whoami,
)
from tests.support import SECRET, StaticGate

REFUSED = f"UNAUTHENTICATED: {PHRASE}"

Serve = Callable[..., AbstractContextManager[str]]
INTERCEPTORS: dict[str, tuple[Serve, Any, Callable[[], Any]]] = {
    "sync": (sync_server, GrpcAuthServerInterceptor, SyncService),
    "aio": (aio_server, GrpcAioAuthServerInterceptor, AioService),
    "aio, written": (aio_server, GrpcAioAuthServerInterceptor, lambda: AioService("written")),
    "aio, plain functions": (aio_server, GrpcAioAuthServerInterceptor, SyncInAio),
}
every_interceptor = pytest.mark.parametrize("interceptor", INTERCEPTORS)
every_kind = pytest.mark.parametrize("kind", KINDS)


class Running:
    """A service behind an interceptor, and a channel to it without credentials."""

    channel: grpc.Channel
    target: str

    def __init__(self, kind: str, check: TokenVerifier) -> None:
        serve, make, service = INTERCEPTORS[kind]
        self.service = service()
        self.verifier = check
        self._server = serve([make(check)], self.service)

    @contextmanager
    def run(self) -> Iterator[Running]:
        """Serve."""
        with self._server as self.target, grpc.insecure_channel(self.target) as self.channel:
            yield self


@pytest.fixture(scope="module", params=INTERCEPTORS)
def both(request: pytest.FixtureRequest) -> Iterator[dict[bool, Running]]:
    """Serve with a previous secret (True) and without one (False), once for all tests."""
    with (
        Running(request.param, verifier()).run() as with_previous,
        Running(request.param, verifier(previous=False)).run() as without,
    ):
        yield {True: with_previous, False: without}


@pytest.fixture
def running(both: dict[bool, Running]) -> Running:
    """Return the server that accepts a previous secret too."""
    return both[True]


@every_kind
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_which_credentials_are_accepted(case: Case, kind: str, both: dict[bool, Running]) -> None:
    """Every kind of credentials: the caller, or one constant refusal that is counted."""
    running = both[case.previous]
    running.service.ran.clear()
    before = running.verifier.rejections()

    metadata = [("authorization", value) for value in case.values()]
    answer = call(running.channel, kind, metadata)

    after = running.verifier.rejections()
    if case.reason is None:
        assert (answer, len(running.service.ran), after) == (SUBJECT, 1, before)
    else:
        assert answer == REFUSED
        assert running.service.ran == []
        assert after.get(case.reason, 0) == before.get(case.reason, 0) + 1


@every_kind
def test_the_client_interceptor_is_accepted(kind: str, running: Running) -> None:
    """The server half accepts the token of the client half."""
    settings = Settings(secret=SECRET, subject=SUBJECT, key_id="k2")
    provider = MCPTokenProvider(settings, gate=StaticGate())
    channel = grpc.intercept_channel(running.channel, GrpcAuthInterceptor(provider=provider))
    assert call(channel, kind) == SUBJECT


@every_kind
def test_the_aio_client_interceptors_are_accepted(kind: str, running: Running) -> None:
    """The same for the four interceptors of the asyncio client."""
    settings = Settings(secret=SECRET, subject=SUBJECT, key_id="k2")
    provider = MCPTokenProvider(settings, gate=StaticGate())

    async def talk() -> set[bytes]:
        interceptors = grpc_aio_interceptors(provider=provider)
        async with grpc.aio.insecure_channel(running.target, interceptors=interceptors) as channel:
            request: Any = b"x" if kind.startswith("unary") else iter([b"x", b"y"])
            answer = getattr(channel, kind)(f"/test.Whoami/{kind}")(request, timeout=10)
            if kind.endswith("stream"):
                return {part async for part in answer}
            return {await answer}

    assert asyncio.run(talk()) == {SUBJECT.encode()}


def test_a_method_that_is_not_there_stays_unimplemented(running: Running) -> None:
    """With and without a token: the interceptor neither hides nor adds methods."""
    for metadata in ([], [("authorization", f"Bearer {token()}")]):
        assert call(running.channel, "nothing", metadata).startswith("UNIMPLEMENTED")


@every_kind
def test_no_caller_is_left_behind(kind: str, running: Running) -> None:
    """On the same worker thread the next call has another caller; outside of a call it is None."""
    for subject in ("service-b", "service-c"):
        metadata = [("authorization", f"Bearer {token(sub=subject)}")]
        assert call(running.channel, kind, metadata) == subject
    assert current_caller() is None


@every_interceptor
def test_an_exempt_method_has_no_caller(interceptor: str) -> None:
    """One method or a whole service may be exempt; it does not see the caller of another call."""
    serve, make, service = INTERCEPTORS[interceptor]
    with (
        serve([make(verifier(), exempt=["/test.Whoami/unary_unary"])], service()) as target,
        grpc.insecure_channel(target) as channel,
    ):
        metadata = [("authorization", f"Bearer {token()}")]
        assert call(channel, "unary_stream", metadata) == SUBJECT
        assert call(channel, "unary_unary") == "nobody"
        assert call(channel, "unary_unary", metadata) == "nobody"
        assert call(channel, "unary_stream") == REFUSED
    everything = make(verifier(), exempt=["/test.Whoami/*"])
    with serve([everything], service()) as target, grpc.insecure_channel(target) as channel:
        assert {call(channel, kind) for kind in KINDS} == {"nobody"}


@pytest.mark.parametrize("make", [GrpcAuthServerInterceptor, GrpcAioAuthServerInterceptor])
@pytest.mark.parametrize(
    "exempt", [["test.Whoami"], ["/test.Whoami"], "/test.Whoami/*", ["*"], ["/*"]]
)
def test_an_exemption_that_would_never_match_is_refused(make: Any, exempt: Any) -> None:
    """A pattern of another form raises when the interceptor is made."""
    with pytest.raises(ValueError, match="package"):
        make(verifier(), exempt=exempt)


def test_health_is_exempt_and_reflection_is_not() -> None:
    """Probes carry no token; the list of methods is for verified callers only."""
    server = grpc.server(
        ThreadPoolExecutor(4), interceptors=[GrpcAuthServerInterceptor(verifier())]
    )
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    reflection.enable_server_reflection(["grpc.health.v1.Health"], server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            probe = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert probe.status == health_pb2.HealthCheckResponse.SERVING
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            with pytest.raises(grpc.RpcError) as refusal:
                list(stub.ServerReflectionInfo(iter([request])))
            assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("interceptor", "servicer"),
    [("sync", health.HealthServicer), ("aio", AioHealthServicer)],
)
def test_health_watch_works_when_it_is_not_exempt(interceptor: str, servicer: Any) -> None:
    """The sync one is non-blocking: gRPC passes it a callback and it returns nothing."""
    serve, make, _ = INTERCEPTORS[interceptor]
    methods = {
        "Watch": grpc.unary_stream_rpc_method_handler(
            servicer().Watch,
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        )
    }
    handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)
    with (
        serve([make(verifier(), exempt=[])], handler) as target,
        grpc.insecure_channel(target) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch
        with pytest.raises(grpc.RpcError) as refusal:
            next(watch(health_pb2.HealthCheckRequest(), timeout=10))
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
        metadata = [("authorization", f"Bearer {token()}")]
        watching = watch(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=10)
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_a_non_blocking_handler_sees_its_caller(kind: str) -> None:
    """It answers through the callback, which gRPC gives to handlers with a stream of responses."""

    def behavior(request: Any, context: Any, send: Callable[[bytes | None], None]) -> None:
        send(whoami())
        send(None)

    behavior.experimental_non_blocking = True  # type: ignore[attr-defined]
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(behavior)
    service = grpc.method_handlers_generic_handler("test.Whoami", {kind: handler})
    with (
        sync_server([GrpcAuthServerInterceptor(verifier())], service) as target,
        grpc.insecure_channel(target) as channel,
    ):
        assert call(channel, kind) == REFUSED
        assert call(channel, kind, [("authorization", f"Bearer {token()}")]) == SUBJECT


class _Tagging(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Another interceptor, which wraps handlers and records the caller."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or handler.response_streaming:
            return handler

        def tagged(request: Any, context: Any) -> Any:
            self.seen.append(whoami())
            kind = "stream_unary" if handler.request_streaming else "unary_unary"
            return getattr(handler, kind)(request, context)

        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(tagged, handler.request_deserializer, handler.response_serializer)


@pytest.mark.parametrize("first", [True, False])
def test_beside_other_interceptors(first: bool) -> None:
    """It refuses before or after another one; an interceptor after it sees the caller."""
    auth, other = GrpcAuthServerInterceptor(verifier()), _Tagging()
    order = [auth, other] if first else [other, auth]
    service = SyncService()
    with sync_server(order, service) as target, grpc.insecure_channel(target) as channel:
        for kind in KINDS:
            assert call(channel, kind) == REFUSED
            assert call(channel, kind, [("authorization", f"Bearer {token()}")]) == SUBJECT
    assert len(service.ran) == 4
    assert other.seen[-2:] == ([SUBJECT.encode()] * 2 if first else [b"nobody"] * 2)
    assert len(other.seen) == (2 if first else 4)


class _AioPassing(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Runs the rest of the chain in another task, whose context ends there."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await asyncio.create_task(continuation(handler_call_details))


@pytest.mark.parametrize("first", [True, False])
def test_beside_other_aio_interceptors(first: bool) -> None:
    """The handler sees the caller even if another interceptor runs in another task."""
    auth = GrpcAioAuthServerInterceptor(verifier())
    order = [auth, _AioPassing()] if first else [_AioPassing(), auth]
    with aio_server(order, AioService()) as target, grpc.insecure_channel(target) as channel:
        for kind in KINDS:
            assert call(channel, kind) == REFUSED
            assert call(channel, kind, [("authorization", f"Bearer {token()}")]) == SUBJECT


@every_kind
def test_a_refused_call_is_not_parsed(kind: str) -> None:
    """The request of an unverified caller is not deserialised."""
    parsed: list[bytes] = []

    def parse(data: bytes) -> bytes:
        parsed.append(data)
        return data

    class Parsing(SyncService):
        def service(self, handler_call_details: Any) -> Any:
            handler = super().service(handler_call_details)
            make = getattr(grpc, f"{kind}_rpc_method_handler")
            return make(getattr(handler, kind), parse)

    with (
        sync_server([GrpcAuthServerInterceptor(verifier())], Parsing()) as target,
        grpc.insecure_channel(target) as channel,
    ):
        assert call(channel, kind) == REFUSED
        assert parsed == []
        assert call(channel, kind, [("authorization", f"Bearer {token()}")]) == SUBJECT
        assert parsed


@every_interceptor
@every_kind
def test_without_a_secret_every_call_is_refused(interceptor: str, kind: str) -> None:
    """The process-wide verifier refuses everything until the environment has a secret."""
    serve, make, service = INTERCEPTORS[interceptor]
    with serve([make()], service()) as target, grpc.insecure_channel(target) as channel:
        assert call(channel, kind, [("authorization", f"Bearer {token()}")]) == REFUSED
