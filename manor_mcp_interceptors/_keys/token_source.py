"""Tokens that the application's token source gives."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from manor_mcp_interceptors._asking import MAX_PENDING, Asker
from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors._waiting import reset_after_fork
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.protocols import Clock, TokenSource

from .given_token import GivenToken, parse_given
from .watched_file import NotUsableError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

NAME: Final = "token_source"
"""What messages call it, as the argument of `configure` is called."""

TokenOrProblem = GivenToken | SettingsError


@dataclass(frozen=True, slots=True)
class _Reply(HoldsSecret):
    """What the source gave, or why it gave nothing."""

    audience: str
    result: TokenOrProblem = field(repr=False)
    is_urgent: bool
    """Whether calls had no token meanwhile, or one that a server has refused."""


class AskedTokens(HoldsSecret):
    """Asks a token source in a worker thread. Safe from any thread."""

    def __init__(self, source: TokenSource, clock: Clock, on_change: Callable[[], None]) -> None:
        """Take the source, and what to call when an urgent token has come too late for its caller.

        Raises:
            SettingsError: The source is not callable.
        """
        if not callable(source):
            raise SettingsError(
                f"{NAME}: {type(source).__name__} is not callable; it takes a function"
                " (audience) -> token or None",
                variable=NAME,
            )
        self.name: Final = f"{NAME} ({getattr(source, '__qualname__', type(source).__qualname__)})"
        self._source = source
        self._clock = clock
        self._on_change = on_change
        self._asker: Asker[str, _Reply] = Asker("mcp-auth-token", self._on_late, isolated=True)
        self._late: dict[str, GivenToken] = {}
        self._loop = _PrivateLoop()

    def late(self, audience: str, in_use: GivenToken | None) -> GivenToken | None:
        """Return an answer for which no caller has waited, until it is in use or has expired."""
        late = self._late.get(audience)
        if late is None or (late != in_use and self._lives(late)):
            return late
        self._late.pop(audience, None)
        return None

    def ask(
        self,
        audience: str,
        last: GivenToken | None,
        *,
        is_refused: bool = False,
        max_wait: float | None = None,
    ) -> TokenOrProblem:
        """Return a new token, or the last one if the source fails; or why there is none.

        Args:
            audience: What the token is for.
            last: The token in use, if there is one.
            is_refused: Whether a server has refused it: a call then waits as for a first token.
            max_wait: Seconds to wait at most; None is this library's own limit.
        """
        is_urgent = is_refused or not self._lives(last)
        question = partial(self._answer, audience, is_urgent=is_urgent)
        reply = self._asker.ask(audience, question, is_known=not is_urgent, max_wait=max_wait)
        return self._result(reply, last)

    async def ask_async(
        self,
        audience: str,
        last: GivenToken | None,
        *,
        is_refused: bool = False,
        max_wait: float | None = None,
    ) -> TokenOrProblem:
        """As `ask`; the event loop, of asyncio or trio, continues meanwhile."""
        is_urgent = is_refused or not self._lives(last)
        question = partial(self._answer, audience, is_urgent=is_urgent)
        reply = await self._asker.ask_async(
            audience, question, is_known=not is_urgent, max_wait=max_wait
        )
        return self._result(reply, last)

    def _result(self, reply: _Reply | None, last: GivenToken | None) -> TokenOrProblem:
        result = self._failed("gave no answer in time") if reply is None else reply.result
        if isinstance(result, GivenToken) or result.outcome is not Outcome.SOURCE_FAILED:
            return result
        if last is None or not self._lives(last):
            return result
        return replace(last, warnings=(f"{result}; the last good token stays in use",))

    def _lives(self, token: GivenToken | None) -> bool:
        """Return whether there is a token that has not expired."""
        if token is None:
            return False
        return token.expires_at is None or self._clock.time() < token.expires_at

    def _on_late(self, reply: _Reply) -> None:
        if not isinstance(reply.result, GivenToken):
            return
        if len(self._late) >= MAX_PENDING:  # audiences that nobody asks for any more
            self._late.clear()
        self._late[reply.audience] = reply.result
        if reply.is_urgent:
            self._on_change()

    def _answer(self, audience: str, *, is_urgent: bool) -> _Reply:
        """Ask the source, in the worker thread. Raises nothing."""
        try:
            answer = self._source(audience)
            if inspect.isawaitable(answer):
                answer = self._loop.run(answer)
        except (Exception, SystemExit) as error:  # its text may hold anything, a token too
            result: TokenOrProblem = self._failed(f"raised {type(error).__name__}")
        else:
            result = self._read(answer, audience)
        return _Reply(audience, result, is_urgent)

    def _read(self, answer: object, audience: str) -> TokenOrProblem:
        if answer is None:
            problem = f"has no token for the audience {audience!r}"
            return self._problem(problem, Outcome.NOT_CONFIGURED)
        if not isinstance(answer, str):
            return self._problem(f"gave {type(answer).__name__}, not text or None")
        try:
            token = parse_given(answer, self.name)
            token.check_audience(audience)
        except NotUsableError as error:
            return self._problem(f"gave text that {error}")
        except SettingsError as error:
            return error.with_traceback(None)  # its frames hold the token
        return token

    def _failed(self, problem: str) -> SettingsError:
        return self._problem(problem, Outcome.SOURCE_FAILED)

    def _problem(self, problem: str, outcome: Outcome = Outcome.INVALID_CONFIG) -> SettingsError:
        return SettingsError(f"{self.name} {problem}", variable=NAME, outcome=outcome)


class _PrivateLoop:
    """An asyncio event loop that one thread at a time runs; made when it is first needed."""

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Leave the loop to the parent."""
        if self._loop is not None:
            _close(self._loop)
        self._loop = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Return the result of `awaitable`.

        Raises:
            RuntimeError: It was cancelled; `CancelledError` would end the thread.
        """
        import asyncio
        import selectors

        if self._loop is None:
            # Not epoll: a forked child that closes its copy would change the parent's.
            selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
            self._loop = asyncio.SelectorEventLoop(selector())
            weakref.finalize(self, _close, self._loop)
        try:
            return self._loop.run_until_complete(awaitable)
        except asyncio.CancelledError:
            raise RuntimeError("it was cancelled") from None


def _close(loop: AbstractEventLoop) -> None:
    if not loop.is_running():  # it is if a source hangs while the process ends
        loop.close()
