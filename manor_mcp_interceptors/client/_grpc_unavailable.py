"""The error of a call that requires a token if there is none; sync and aio."""

from __future__ import annotations

from typing import Any

from grpc import Call, Future, RpcError, StatusCode
from grpc.aio import AioRpcError, Metadata

from manor_mcp_interceptors.errors import TokenUnavailableError
from manor_mcp_interceptors.outcomes import Outcome


class TokenUnavailableRpcError(TokenUnavailableError, AioRpcError, Call, Future):  # type: ignore[misc, type-arg]
    """A required token is missing; nothing was sent.

    It is the error, sync and aio, and also the failed sync call, as grpc's own errors are: it
    reaches the caller in the same way from a plain call, `with_call`, a future and a stream.
    """

    def __init__(self, message: str, outcome: Outcome) -> None:
        AioRpcError.__init__(
            self, StatusCode.UNAUTHENTICATED, Metadata(), Metadata(), message, None
        )
        self.outcome = outcome

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.details(), self.outcome)

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - it has ended
        raise self

    def exception(self, timeout: float | None = None) -> RpcError:  # noqa: ARG002
        return self

    def traceback(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        return self.__traceback__

    def add_done_callback(self, fn: Any) -> None:
        fn(self)

    def add_callback(self, callback: Any) -> bool:  # noqa: ARG002 - False: it will not be called
        return False

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def is_active(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def time_remaining(self) -> Any:
        return None

    def __iter__(self) -> TokenUnavailableRpcError:
        return self

    def __next__(self) -> Any:
        raise self
