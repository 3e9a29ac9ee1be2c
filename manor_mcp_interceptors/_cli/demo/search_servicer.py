"""The search service over gRPC: a few documents, two tools, and callers that are verified."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NoReturn

import grpc
from google.protobuf.struct_pb2 import Struct

from manor_mcp_interceptors._bearer import METADATA_KEY, parse_bearer
from manor_mcp_interceptors.errors import TokenRejectedError
from manor_mcp_interceptors.server.verifier import TokenVerifier

from .guestbook import NO_TOKEN, REFUSED, Guestbook
from .search_service import search_service_pb2 as pb
from .search_service.search_service_pb2_grpc import SearchServiceServicer

ACCEPTED: Final = (("token-accepted", "true"),)
TOOLS: Final = {
    "search": "Return the titles of the documents that contain the query.",
    "whoami": "Return the name of the caller.",
}
DOCUMENTS: Final = (
    pb.Document(id="margin", title="Margins", text="A token is renewed before it expires."),
    pb.Document(id="flag", title="Flags", text="A flag decides whether a token is sent."),
    pb.Document(id="clock", title="Clocks", text="No two clocks agree."),
)


class _SessionRequestError(Exception):
    """A request of a session failed; the session continues."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class SearchServicer(SearchServiceServicer):
    """Serves the contract in ``search_service.proto``. Every method verifies its caller first."""

    def __init__(self, verifier: TokenVerifier, guestbook: Guestbook) -> None:
        self._verifier = verifier
        self._guestbook = guestbook
        self._documents = {document.id: document for document in DOCUMENTS}

    def ListTools(  # noqa: N802 - the contract's name, as below
        self, request: pb.ListToolsRequest, context: grpc.ServicerContext
    ) -> pb.ListToolsResponse:
        """Return one page of tools; the page token is the name of the tool it starts with."""
        caller = self._caller(context)
        names = sorted(name for name in TOOLS if name >= request.page_token)
        size = request.page_size if request.page_size > 0 else len(names)
        tools = [pb.Tool(name=name, description=TOOLS[name]) for name in names[:size]]
        following = names[size] if size < len(names) else ""
        return pb.ListToolsResponse(tools=tools, next_page_token=following, caller=caller)

    def InvokeTool(  # noqa: N802
        self, request: pb.InvokeToolRequest, context: grpc.ServicerContext
    ) -> pb.InvokeToolResponse:
        """Run a tool."""
        caller = self._caller(context)
        try:
            return self._run(request, caller)
        except _SessionRequestError as error:
            _abort(context, error.code, str(error))

    def StreamResults(  # noqa: N802
        self, request: pb.StreamResultsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamResultsResponse]:
        """Send the documents that contain the query."""
        caller = self._caller(context)
        try:
            yield from self._search(request, caller)
        except _SessionRequestError as error:
            _abort(context, error.code, str(error))

    def IndexDocuments(  # noqa: N802
        self, requests: Iterator[pb.IndexDocumentsRequest], context: grpc.ServicerContext
    ) -> pb.IndexDocumentsResponse:
        """Keep the documents that have an id."""
        answer = pb.IndexDocumentsResponse(caller=self._caller(context))
        for request in requests:
            if request.document.id:
                self._documents[request.document.id] = request.document
                answer.indexed_count += 1
            else:
                answer.rejected_count += 1
        return answer

    def Session(  # noqa: N802
        self, requests: Iterator[pb.SessionRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.SessionResponse]:
        """Answer each request in turn."""
        caller = self._caller(context)
        for request in requests:
            yield from self._answer(request, caller)

    def _answer(
        self, request: pb.SessionRequest, caller: pb.Caller
    ) -> Iterator[pb.SessionResponse]:
        try:
            yield from self._act(request, caller)
        except _SessionRequestError as error:
            failure = pb.SessionError(code=error.code.value[0], message=str(error))
            yield pb.SessionResponse(id=request.id, error=failure, is_last=True, caller=caller)

    def _act(self, request: pb.SessionRequest, caller: pb.Caller) -> Iterator[pb.SessionResponse]:
        if request.HasField("invoke_tool"):
            ran = self._run(request.invoke_tool, caller)
            yield pb.SessionResponse(id=request.id, tool_result=ran, is_last=True, caller=caller)
        elif request.HasField("stream_results"):
            for result in self._search(request.stream_results, caller):
                yield pb.SessionResponse(id=request.id, search_result=result, caller=caller)
            yield pb.SessionResponse(id=request.id, is_last=True, caller=caller)
        else:
            raise _SessionRequestError(grpc.StatusCode.INVALID_ARGUMENT, "no action")

    def _run(self, request: pb.InvokeToolRequest, caller: pb.Caller) -> pb.InvokeToolResponse:
        if request.name == "whoami":
            return pb.InvokeToolResponse(text=caller.subject, caller=caller)
        if request.name == "search":
            query = str(dict(request.arguments).get("query", ""))
            results = self._search(pb.StreamResultsRequest(query=query), caller)
            titles = [result.document.title for result in results]
            data = Struct()
            data.update({"titles": titles})
            text = ", ".join(titles)
            return pb.InvokeToolResponse(text=text, structured_content=data, caller=caller)
        raise _SessionRequestError(grpc.StatusCode.NOT_FOUND, "no such tool")

    def _search(
        self, request: pb.StreamResultsRequest, caller: pb.Caller
    ) -> Iterator[pb.StreamResultsResponse]:
        query = request.query.strip().lower()
        if not query:
            raise _SessionRequestError(grpc.StatusCode.INVALID_ARGUMENT, "the query is blank")
        counted = [(d.text.lower().count(query), d) for d in list(self._documents.values())]
        found = sorted((c for c in counted if c[0]), key=lambda c: c[0], reverse=True)
        for count, document in found[: request.max_results or None]:
            yield pb.StreamResultsResponse(document=document, score=count, caller=caller)

    def _caller(self, context: grpc.ServicerContext) -> pb.Caller:
        """Return the caller, or end the call. The reason is noted, but not sent to the client."""
        values = [str(value) for key, value in context.invocation_metadata() if key == METADATA_KEY]
        token = parse_bearer(values[0]) if len(values) == 1 else None
        if token is None:
            self._guestbook.note(NO_TOKEN)
            _abort(context, grpc.StatusCode.UNAUTHENTICATED, "invalid token")
        try:
            verified = self._verifier.verify(token)
        except TokenRejectedError:
            self._guestbook.note(REFUSED)
            _abort(context, grpc.StatusCode.UNAUTHENTICATED, "invalid token")
        self._guestbook.note(verified.subject)
        context.send_initial_metadata(ACCEPTED)
        return pb.Caller(subject=verified.subject, issuer=verified.issuer)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message)
    raise AssertionError("abort always raises")
