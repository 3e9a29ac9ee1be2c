"""The gRPC service of the demo does what the ``.proto`` promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from manor_mcp_interceptors import MCPTokenProvider, Settings
from manor_mcp_interceptors._cli.demo.search_service import search_service_pb2 as pb
from manor_mcp_interceptors._cli.demo.search_service.search_service_pb2_grpc import (
    SearchServiceStub,
)
from manor_mcp_interceptors._cli.demo.servers import start_servers
from tests.support import OTHER_SECRET, SECRET, StaticGate

pytestmark = pytest.mark.slow

SETTINGS = Settings(secret=SECRET, subject="service-a")
CALLER = pb.Caller(subject="service-a", issuer="manor-internal")


class Client:
    """Calls the service with metadata of the test's choice."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self.metadata = metadata

    def __getattr__(self, method: str) -> Any:
        def call(request: Any) -> Any:
            return getattr(self._stub, method)(request, metadata=self.metadata, timeout=5)

        return call


@pytest.fixture
def client() -> Iterator[Client]:
    """Call the running service with a good token."""
    token = MCPTokenProvider(SETTINGS, gate=StaticGate()).token()
    with start_servers(SETTINGS) as servers, grpc.insecure_channel(servers.grpc.target) as channel:
        stub = SearchServiceStub(channel)  # type: ignore[no-untyped-call]
        yield Client(stub, (("authorization", f"Bearer {token}"),))


def code_of(error: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    return error.value.code()


def test_tools_are_listed_page_by_page(client: Client) -> None:
    """Each page names the next one; the last one names none."""
    first = client.ListTools(pb.ListToolsRequest(page_size=1))
    second = client.ListTools(pb.ListToolsRequest(page_size=1, page_token=first.next_page_token))

    assert [tool.name for tool in (*first.tools, *second.tools)] == ["search", "whoami"]
    assert second.next_page_token == ""
    assert first.caller == second.caller == CALLER


def test_a_tool_answers_text_and_data(client: Client) -> None:
    """What the tool made arrives as text and as data."""
    arguments = Struct()
    arguments.update({"query": "clocks"})

    answer = client.InvokeTool(pb.InvokeToolRequest(name="search", arguments=arguments))

    assert answer.text == "Clocks"
    assert list(answer.structured_content["titles"]) == ["Clocks"]


def test_failures_have_their_own_status(client: Client) -> None:
    """An unknown tool is NOT_FOUND, and a blank query INVALID_ARGUMENT."""
    with pytest.raises(grpc.RpcError) as unknown:
        client.InvokeTool(pb.InvokeToolRequest(name="dig"))
    with pytest.raises(grpc.RpcError) as blank:
        list(client.StreamResults(pb.StreamResultsRequest(query=" ")))

    assert code_of(unknown) is grpc.StatusCode.NOT_FOUND
    assert code_of(blank) is grpc.StatusCode.INVALID_ARGUMENT


def test_an_indexed_document_is_found_and_one_without_id_is_counted(client: Client) -> None:
    """The best match comes first, and no more than were asked for."""
    documents = [pb.Document(id="new", text="token token"), pb.Document(text="no id")]
    sent = iter([pb.IndexDocumentsRequest(document=document) for document in documents])

    answer = client.IndexDocuments(sent)
    found = list(client.StreamResults(pb.StreamResultsRequest(query="token", max_results=2)))

    assert (answer.indexed_count, answer.rejected_count) == (1, 1)
    assert [result.document.id for result in found] == ["new", "margin"]
    assert [result.score for result in found] == [2, 1]


def test_a_session_continues_after_a_failed_request(client: Client) -> None:
    """Each request is answered under its id, and its last response is marked."""
    requests = [
        pb.SessionRequest(id="a", invoke_tool=pb.InvokeToolRequest(name="dig")),
        pb.SessionRequest(id="b"),
        pb.SessionRequest(id="c", stream_results=pb.StreamResultsRequest(query="clocks")),
        pb.SessionRequest(id="d", invoke_tool=pb.InvokeToolRequest(name="whoami")),
    ]

    answers = list(client.Session(iter(requests)))

    assert [(a.id, a.WhichOneof("outcome"), a.is_last) for a in answers] == [
        ("a", "error", True),
        ("b", "error", True),
        ("c", "search_result", False),
        ("c", None, True),
        ("d", "tool_result", True),
    ]
    assert [a.error.code for a in answers[:2]] == [5, 3]
    assert answers[-1].tool_result.text == "service-a"


@pytest.mark.parametrize("fault", ["none", "two", "forged", "other scheme"])
def test_a_caller_that_cannot_be_verified_is_refused(client: Client, fault: str) -> None:
    """Without exactly one good bearer token, nothing is answered, and no reason is given."""
    forger = MCPTokenProvider(Settings(secret=OTHER_SECRET), gate=StaticGate())
    client.metadata = {
        "none": (),
        "two": client.metadata * 2,
        "forged": (("authorization", f"Bearer {forger.token()}"),),
        "other scheme": (("authorization", "Basic YTpi"),),
    }[fault]

    with pytest.raises(grpc.RpcError) as refusal:
        client.ListTools(pb.ListToolsRequest())

    assert code_of(refusal) is grpc.StatusCode.UNAUTHENTICATED
    assert refusal.value.details() == "invalid token"
