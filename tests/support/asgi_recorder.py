"""What arrives at an ASGI application, as the wire carried it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]


class Recorder:
    """Hands every request on to `application`, and keeps its ``Authorization`` values."""

    def __init__(self, application: Callable[[Scope, Channel, Channel], Awaitable[None]]) -> None:
        self._application = application
        self.authorizations: list[list[str]] = []
        """For each HTTP request, in order, its values: none, one, or by mistake two."""

    async def __call__(self, scope: Scope, receive: Channel, send: Channel) -> None:
        if scope["type"] == "http":
            values = [v.decode() for k, v in scope["headers"] if k == b"authorization"]
            self.authorizations.append(values)
        await self._application(scope, receive, send)

    def tokens(self) -> list[str]:
        """Return the token of each request that carried one; every request must have."""
        assert all(len(values) == 1 for values in self.authorizations), "a request went bare"
        assert all(value.startswith("Bearer ") for (value,) in self.authorizations)
        return [value.removeprefix("Bearer ") for (value,) in self.authorizations]
