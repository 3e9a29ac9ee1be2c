"""The gRPC doors, sync and aio: all four kinds of call, against real servers."""

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
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from manor_mcp_interceptors import (
    GrpcAuthInterceptor,
    MCPTokenProvider,
    Settings,
    grpc_aio_interceptors,
)
from manor_mcp_interceptors.server.grpc_aio_interceptors import GrpcAioAuthServerInterceptor
from manor_mcp_interceptors.server.grpc_interceptors import GrpcAuthServerInterceptor, current_caller
from tests.server.callers import CASES, PHRASE, SUBJECT, Case, token, verifier
from tests.server.grpc_services import (
    KINDS,
    AioService,
    SyncInAio,
    SyncService,
    aio_server,
    call,
    sync_server,
)
from tests.support import SECRET, StaticGate

REFUSED = f"UNAUTHENTICATED: {PHRASE}"

Serve = Callable[..., AbstractContextManager[str]]
DOORS: dict[str, tuple[Serve, Any, Callable[[], Any]]] = {
    "sync": (sync_server, GrpcAuthServerInterceptor, SyncService),
    "aio": (aio_server, GrpcAioAuthServerInterceptor, AioService),
    "aio, written": (aio_server, GrpcAioAuthServerInterceptor, lambda: AioService("written")),
    "aio, plain functions": (aio_server, GrpcAioAuthServerInterceptor, SyncInAio),
}
every_door = pytest.mark.parametrize("door", DOORS)
every_kind = pytest.mark.parametrize("kind", KINDS)


class Running:
    """A service behind a door, and a bare channel to it."""

    channel: grpc.Channel
    target: str

    def __init__(self, door: str) -> None:
        serve, make, service = DOORS[door]
        self.service = service()
        self.strict = verifier(previous=False)
        self.lenient = verifier()
        self.current = self.lenient
        self._server = serve([make(_Switch(self))], self.service)

    @contextmanager
    def run(self) -> Iterator[Running]:
        """Serve."""
        with self._server as self.target, grpc.insecure_channel(self.target) as self.channel:
            yield self


class _Switch:
    """A verifier that is the one or the other, so that one server serves the whole table."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def judge_authorization(self, values: Any) -> Any:
        return self._running.current.judge_authorization(values)


@pytest.fixture(scope="module", params=DOORS)
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """Serve once for the whole table."""
    with Running(request.param).run() as running:
        yield running


@every_kind
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_who_gets_in(case: Case, kind: str, running: Running) -> None:
    """A bare client with every kind of credentials: the caller, or one constant refusal."""
    running.current = running.lenient if case.previous else running.strict
    running.service.ran.clear()
    before = running.current.rejections()

    metadata = [("authorization", value) for value in case.values()]
    answer = call(running.channel, kind, metadata)

    after = running.current.rejections()
    if case.reason is None:
        assert (answer, len(running.service.ran), after) == (SUBJECT, 1, before)
    else:
        assert answer == REFUSED
        assert running.service.ran == []
        assert after.get(case.reason, 0) == before.get(case.reason, 0) + 1


@every_kind
def test_our_adapter_is_let_in(kind: str, running: Running) -> None:
    """The client door's interceptor opens the server door."""
    running.current = running.lenient
    settings = Settings(secret=SECRET, subject=SUBJECT, key_id="k2")
    provider = MCPTokenProvider(settings, gate=StaticGate())
    channel = grpc.intercept_channel(running.channel, GrpcAuthInterceptor(provider=provider))
    assert call(channel, kind) == SUBJECT


@every_kind
def test_our_aio_adapter_is_let_in(kind: str, running: Running) -> None:
    """So do the four objects of the asyncio client."""
    running.current = running.lenient
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
    """With and without a token: the door neither hides nor invents methods."""
    for metadata in ([], [("authorization", f"Bearer {token()}")]):
        assert call(running.channel, "nothing", metadata).startswith("UNIMPLEMENTED")


@every_kind
def test_no_caller_is_left_behind(kind: str, running: Running) -> None:
    """On the same worker thread, the next call has its own caller, and outside there is none."""
    running.current = running.lenient
    for subject in ("service-b", "service-c"):
        metadata = [("authorization", f"Bearer {token(sub=subject)}")]
        assert call(running.channel, kind, metadata) == subject
    assert current_caller() is None


@every_door
def test_an_exempt_method_has_no_caller(door: str) -> None:
    """One method or a whole service may be let through; a call before it leaves nothing there."""
    serve, make, service = DOORS[door]
    interceptor = make(verifier(), exempt=["/test.Whoami/unary_unary"])
    with (
        serve([interceptor], service()) as target,
        grpc.insecure_channel(target) as channel,
    ):
        metadata = [("authorization", f"Bearer {token()}")]
        assert call(channel, "unary_stream", metadata) == SUBJECT
        assert call(channel, "unary_unary") == "nobody"
        assert call(channel, "unary_unary", metadata) == "nobody"
        assert call(channel, "unary_stream") == REFUSED
    interceptor = make(verifier(), exempt=["/test.Whoami/*"])
    with serve([interceptor], service()) as target, grpc.insecure_channel(target) as channel:
        assert {call(channel, kind) for kind in KINDS} == {"nobody"}


@pytest.mark.parametrize("make", [GrpcAuthServerInterceptor, GrpcAioAuthServerInterceptor])
@pytest.mark.parametrize(
    "exempt", [["test.Whoami"], ["/test.Whoami"], "/test.Whoami/*", ["*"], ["/*"]]
)
def test_an_exemption_that_would_never_match_is_refused(make: Any, exempt: Any) -> None:
    """A pattern of another form is a mistake, told where it is made."""
    with pytest.raises(ValueError, match="package"):
        make(verifier(), exempt=exempt)


def test_health_is_exempt_and_reflection_is_not() -> None:
    """Probes carry no token; a map of the service is for callers alone."""
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[GrpcAuthServerInterceptor(verifier())])
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


class _Tagging(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Another interceptor, which wraps handlers and notes who called."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None or handler.response_streaming:
            return handler
        from tests.server.grpc_services import whoami

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
    """Before or behind another one, the door holds; one behind it knows the caller."""
    door, other = GrpcAuthServerInterceptor(verifier()), _Tagging()
    order = [door, other] if first else [other, door]
    service = SyncService()
    with sync_server(order, service) as target, grpc.insecure_channel(target) as channel:
        for kind in KINDS:
            assert call(channel, kind) == REFUSED
            assert call(channel, kind, [("authorization", f"Bearer {token()}")]) == SUBJECT
    assert len(service.ran) == 4
    assert other.seen[-2:] == ([SUBJECT.encode()] * 2 if first else [b"nobody"] * 2)
    assert len(other.seen) == (2 if first else 4)


class _AioPassing(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Runs the rest of the chain in a task of its own, whose context ends there."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await asyncio.create_task(continuation(handler_call_details))


@pytest.mark.parametrize("first", [True, False])
def test_beside_other_aio_interceptors(first: bool) -> None:
    """The caller reaches the handler even where another interceptor changes tasks."""
    door = GrpcAioAuthServerInterceptor(verifier())
    order = [door, _AioPassing()] if first else [_AioPassing(), door]
    with aio_server(order, AioService()) as target, grpc.insecure_channel(target) as channel:
        for kind in KINDS:
            assert call(channel, kind) == REFUSED
            assert call(channel, kind, [("authorization", f"Bearer {token()}")]) == SUBJECT


@every_kind
def test_a_refused_call_is_not_parsed(kind: str) -> None:
    """What a stranger sends is not even deserialised."""
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


@every_door
@every_kind
def test_without_a_secret_nobody_gets_in(door: str, kind: str) -> None:
    """The process-wide verifier refuses everything until the environment has a secret."""
    serve, make, service = DOORS[door]
    with serve([make()], service()) as target, grpc.insecure_channel(target) as channel:
        assert call(channel, kind, [("authorization", f"Bearer {token()}")]) == REFUSED
