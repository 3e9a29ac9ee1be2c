"""The generated code says what the ``.proto`` says, and the ``.proto`` explains itself."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    SourceCodeInfo,
)

from manor_mcp_interceptors._cli.demo.search_service import (
    search_service_pb2,
    search_service_pb2_grpc,
)
from tests.regenerate_protos import PROTO, PROTOS

SERVICE = "manor.mcp.v1.SearchService"
CALL_KINDS = {
    "ListTools": "unary_unary",
    "InvokeTool": "unary_unary",
    "StreamResults": "unary_stream",
    "IndexDocuments": "stream_unary",
    "Session": "stream_stream",
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorProto:
    """Compile the ``.proto`` as it is now, with the protoc that is installed."""
    out = tmp_path_factory.mktemp("protos") / "search_service.binpb"
    options = [f"--proto_path={PROTOS}", f"--descriptor_set_out={out}", "--include_source_info"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, PROTO], check=True)
    files = FileDescriptorSet.FromString(out.read_bytes())
    assert len(files.file) == 1
    return files.file[0]


def without_derived_names(file: FileDescriptorProto) -> FileDescriptorProto:
    """Return a copy without what one protoc writes out and another leaves to be derived."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField("source_code_info")
    for message in copy.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return copy


class RecordingChannel:
    """A channel that notes which calls a stub registers."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[str, Any, Any]] = {}

    def __getattr__(self, kind: str) -> Any:
        def register(path: str, *, request_serializer: Any, response_deserializer: Any) -> None:
            request = getattr(request_serializer, "__qualname__", request_serializer)
            self.calls[path] = (kind, request, response_deserializer.__self__)

        return register


class RecordingServer:
    """A server that notes which handlers a servicer is registered with."""

    def __init__(self) -> None:
        self.handlers: Any = None

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self.handlers = handlers[0]._method_handlers

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        assert service == SERVICE


def test_the_generated_messages_are_those_of_the_proto(compiled: FileDescriptorProto) -> None:
    """Whoever changes the ``.proto`` writes the generated code anew."""
    generated = FileDescriptorProto.FromString(search_service_pb2.DESCRIPTOR.serialized_pb)

    assert without_derived_names(generated) == without_derived_names(compiled), (
        "python -m tests.regenerate_protos"
    )


def test_the_generated_stub_calls_the_methods_of_the_proto(compiled: FileDescriptorProto) -> None:
    """Each method is called by its path, as its kind, with its own messages."""
    channel = RecordingChannel()

    search_service_pb2_grpc.SearchServiceStub(channel)  # type: ignore[no-untyped-call]

    service = compiled.service[0]
    assert {path: kind for path, (kind, _, _) in channel.calls.items()} == {
        f"/{SERVICE}/{method.name}": kind_of(method.client_streaming, method.server_streaming)
        for method in service.method
    }
    for method in service.method:
        _, request, response = channel.calls[f"/{SERVICE}/{method.name}"]
        assert request == "Message.SerializeToString" or method.input_type.endswith(request)
        assert f".{response.DESCRIPTOR.full_name}" == method.output_type


def test_the_generated_servicer_serves_the_methods_of_the_proto(
    compiled: FileDescriptorProto,
) -> None:
    """Each method is served as its kind, and reads its own message."""
    server = RecordingServer()
    servicer = search_service_pb2_grpc.SearchServiceServicer()

    add = search_service_pb2_grpc.add_SearchServiceServicer_to_server
    add(servicer, server)  # type: ignore[no-untyped-call]

    assert server.handlers.keys() == {
        f"/{SERVICE}/{method.name}" for method in compiled.service[0].method
    }
    for method in compiled.service[0].method:
        handler = server.handlers[f"/{SERVICE}/{method.name}"]
        assert handler.request_streaming == method.client_streaming
        assert handler.response_streaming == method.server_streaming
        request = handler.request_deserializer.__self__
        assert f".{request.DESCRIPTOR.full_name}" == method.input_type


def test_the_service_has_all_four_kinds_of_call(compiled: FileDescriptorProto) -> None:
    """The contract is what the demo and the tests call, in every kind that gRPC has."""
    assert {
        method.name: kind_of(method.client_streaming, method.server_streaming)
        for method in compiled.service[0].method
    } == CALL_KINDS


def test_the_type_stub_has_the_fields_of_the_proto(compiled: FileDescriptorProto) -> None:
    """What mypy believes about the messages is what they are."""
    path = Path(inspect.getfile(search_service_pb2)).with_suffix(".pyi")
    classes = {
        node.name: {
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
    }

    assert classes.keys() == {message.name for message in compiled.message_type}
    for message in compiled.message_type:
        names = {field.name for field in message.field}
        assert {name for name in classes[message.name] if name.islower()} == names


@pytest.mark.parametrize("module", [search_service_pb2, search_service_pb2_grpc])
def test_the_generated_code_asks_for_no_newer_runtime(module: ModuleType) -> None:
    """A newer generator would raise the lower bounds of the extra: the pinned one does not."""
    source = inspect.getsource(module)

    assert "ValidateProtobufRuntimeVersion" not in source
    assert "GRPC_GENERATED_VERSION" not in source


def test_everything_in_the_proto_is_documented(compiled: FileDescriptorProto) -> None:
    """Each service, method, message, oneof and field carries a comment."""
    comments = {tuple(place.path) for place in compiled.source_code_info.location if said(place)}
    expected: dict[tuple[int, ...], str] = {(2,): "package"}
    for at, service in enumerate(compiled.service):
        expected[(6, at)] = service.name
        for index, method in enumerate(service.method):
            expected[(6, at, 2, index)] = f"{service.name}.{method.name}"
    for at, message in enumerate(compiled.message_type):
        expected[(4, at)] = message.name
        expected.update(parts_of(message, (4, at)))

    assert [name for path, name in expected.items() if path not in comments] == []


def parts_of(message: DescriptorProto, path: tuple[int, ...]) -> dict[tuple[int, ...], str]:
    """Return the names of a message's fields and oneofs by their place in the file."""
    assert not message.nested_type
    assert not message.enum_type
    fields = enumerate(message.field)
    oneofs = enumerate(message.oneof_decl)
    return {(*path, 2, index): f"{message.name}.{field.name}" for index, field in fields} | {
        (*path, 8, index): f"{message.name}.{oneof.name}" for index, oneof in oneofs
    }


def said(place: SourceCodeInfo.Location) -> bool:
    """Return whether a comment stands at this place of the file."""
    return bool(place.leading_comments.strip())


def kind_of(client_streaming: bool, server_streaming: bool) -> str:
    """Return a call's kind as gRPC's channels name it."""
    names = {False: "unary", True: "stream"}
    return f"{names[client_streaming]}_{names[server_streaming]}"
