"""The feature flag, asked through OpenFeature: flagd, LaunchDarkly, or whatever provider is set."""

from __future__ import annotations

import logging
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import MethodType
from typing import Final

from manor_mcp_interceptors._optional import needs
from manor_mcp_interceptors.protocols import NoAnswerError

from .gates import FlagAnswer, FlagQuestion, LibraryGate

with needs("openfeature", "OpenFeatureGate"):
    from openfeature import api
    from openfeature.client import OpenFeatureClient
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.event import EventDetails, ProviderEvent
    from openfeature.flag_evaluation import FlagEvaluationDetails, Reason
    from openfeature.provider import ProviderStatus
    from openfeature.provider.no_op_provider import NoOpProvider

__all__ = ["OpenFeatureGate"]

_UNFIT: Final = {ProviderStatus.NOT_READY, ProviderStatus.ERROR, ProviderStatus.FATAL}
"""In these states a provider answers with a default or a guess; the last known answer is better."""


class OpenFeatureGate(LibraryGate):
    """Asks the OpenFeature provider that the application has set.

    The targeting key is the subject, `issuer` and `audience` are attributes, and the transaction
    context is merged. If a provider is missing, not ready or in error, or if an evaluation fails,
    the last known answer stands. A provider's events end every lease at once.

    The flag's value is taken as the provider gives it. Beware of providers that convert: the
    environment-variable provider reads ``"false"`` as true.
    """

    name = "OpenFeature"

    def __init__(
        self,
        client: OpenFeatureClient | None = None,
        *,
        domain: str | None = None,
        per_call: bool = False,
        blocking: bool = True,
    ) -> None:
        """Ask by `client`, by default a client of `domain`.

        Args:
            client: None makes one.
            domain: The domain whose provider answers; None is the default provider.
            per_call: Ask at every call, with the targeting key of the transaction context (a
                user) instead of the subject, which becomes the attribute `subject`.
            blocking: False promises that the provider answers from memory; it is then asked on
                the caller's thread.
        """
        self._client = api.get_client(domain) if client is None else client
        self._subscribed_to: object = None
        self.per_call = per_call
        self.blocking = blocking

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_subscribed_to": None}  # a provider holds threads and sockets

    def has_provider(self) -> bool:
        """Return whether the application has set a provider."""
        return not isinstance(self._client.provider, NoOpProvider)

    def is_enabled(self, key: str, *, subject: str) -> bool:
        """Return whether flag `key` is on for `subject`.

        Raises:
            NoAnswerError: There is no provider, or it has no answer.
        """
        return self._details(key, self._context(subject, {})).value

    def evaluate(self, question: FlagQuestion) -> FlagAnswer:
        """Answer as `is_enabled` does, with issuer and audience as attributes."""
        attributes = {"issuer": question.issuer, "audience": question.audience}
        details = self._details(question.key, self._context(question.subject, attributes))
        name = self._client.provider.get_metadata().name
        return FlagAnswer(details.value, sys.intern(f"OpenFeature provider {name}"))

    def caller(self) -> str | None:
        """Return the transaction context's targeting key."""
        return api.get_transaction_context().targeting_key

    def watch(self, notify: Callable[[], None]) -> None:
        """Call `notify`, which is held weakly, at each event of any provider."""
        _events.add(notify)

    def _context(self, subject: str, attributes: dict[str, str]) -> EvaluationContext:
        # The SDK merges the transaction context under this one.
        caller = self.caller() if self.per_call else None
        if caller is None:
            return EvaluationContext(subject, attributes)
        return EvaluationContext(caller, {**attributes, "subject": subject})

    def _details(self, key: str, context: EvaluationContext) -> FlagEvaluationDetails[bool]:
        provider = self._client.provider
        if provider is not self._subscribed_to:  # before its status: no event falls in between
            _events.subscribe()
            self._subscribed_to = provider
        if isinstance(provider, NoOpProvider):
            raise NoAnswerError("no OpenFeature provider is set")
        status = self._client.get_provider_status()
        if status in _UNFIT:
            raise NoAnswerError(f"the OpenFeature provider is {status.value}")
        with _tracebacks:
            # A flag in state DISABLED gets this default, False: switched off is off.
            details = self._client.get_boolean_details(key, False, context)  # noqa: FBT003 - the SDK's
        if details.error_code is not None or details.reason == Reason.ERROR:
            code = "error" if details.error_code is None else details.error_code.value
            raise NoAnswerError(f"OpenFeature: {code}: {details.error_message}")
        return details


class _Events:
    """Passes every provider's events on to those who watch, as long as they live."""

    def __init__(self) -> None:
        self._watchers: set[weakref.ref[Callable[[], None]]] = set()

    def add(self, notify: Callable[[], None]) -> None:
        forget = self._watchers.discard
        if isinstance(notify, MethodType):
            self._watchers.add(weakref.WeakMethod(notify, forget))
        else:
            self._watchers.add(weakref.ref(notify, forget))

    def subscribe(self) -> None:
        """Subscribe to every event, once; `clear_providers` drops all handlers."""
        for event in ProviderEvent:
            with suppress(ValueError):  # not subscribed yet
                api.remove_handler(event, self._pass_on)
            with suppress(RuntimeError):  # the interpreter is ending
                api.add_handler(event, self._pass_on)

    def _pass_on(self, _: EventDetails) -> None:
        for watcher in self._watchers.copy():
            notify = watcher()
            if notify is not None:
                notify()


class _Tracebacks(logging.Filter):
    """Drops the traceback that the SDK logs at each failed evaluation, on this thread only.

    This library logs the failure in one line when it begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self._here = threading.local()

    def __enter__(self) -> None:
        logging.getLogger("openfeature").addFilter(self)  # does nothing if it is there already
        self._here.quiet = True

    def __exit__(self, *_: object) -> None:
        self._here.quiet = False

    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is None or not getattr(self._here, "quiet", False)


_events: Final = _Events()
_tracebacks: Final = _Tracebacks()
