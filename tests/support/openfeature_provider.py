"""An OpenFeature provider that does as it is told, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider import AbstractProvider, Metadata

set_provider_and_wait: Callable[..., None] = getattr(api, "set_provider_and_wait", api.set_provider)
"""Before openfeature-sdk 0.10, `set_provider` itself waits."""


class ToldProvider(AbstractProvider):
    """Answers `on`, or raises `error`, or reports `error_code`, or waits for `release`."""

    def __init__(self, *, on: bool = True) -> None:
        super().__init__()
        self.on: Any = on
        self.error: Exception | None = None
        self.error_code: ErrorCode | None = None
        self.starting: threading.Event | None = None
        """Where set: what `initialize` waits for."""
        self.release: threading.Event | None = None
        """Where set: what an evaluation waits for."""
        self.asked: list[tuple[str, str | None, Mapping[str, Any]]] = []

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        if self.starting is not None:
            assert self.starting.wait(30)

    def get_metadata(self) -> Metadata:
        return Metadata("told")

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        assert evaluation_context is not None
        context = evaluation_context
        self.asked.append((flag_key, context.targeting_key, dict(context.attributes)))
        if self.release is not None:
            assert self.release.wait(30)
        if self.error is not None:
            raise type(self.error)(*self.error.args)  # a new one: each raise adds to a traceback
        return FlagResolutionDetails(self.on, error_code=self.error_code)

    def turn(self, *, on: bool) -> None:
        """Change the flag, and tell of it as real providers do."""
        self.on = on
        self.emit_provider_configuration_changed(ProviderEventDetails())

    def resolve_string_details(self, *_: Any, **__: Any) -> FlagResolutionDetails[str]:
        raise NotImplementedError

    def resolve_integer_details(self, *_: Any, **__: Any) -> FlagResolutionDetails[int]:
        raise NotImplementedError

    def resolve_float_details(self, *_: Any, **__: Any) -> FlagResolutionDetails[float]:
        raise NotImplementedError

    def resolve_object_details(
        self, *_: Any, **__: Any
    ) -> FlagResolutionDetails[Sequence[Any] | Mapping[str, Any]]:
        raise NotImplementedError
