"""The base class of values that hold a secret or a token, and text that is one."""

from __future__ import annotations

from typing import Any


class HoldsSecret:
    """A value that stays in its process: a copy is the value itself, a pickle is refused.

    A class whose other fields are of use without the secret overrides ``__reduce__``, which
    cloudpickle calls as well.
    """

    __slots__ = ()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, _: object) -> Any:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        name = type(self).__name__
        raise TypeError(f"{name} holds a secret or a token and cannot be pickled")


class HiddenText(str):
    """A text that is read as any other; its `repr` hides it from tracebacks that print locals."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'<hidden>'"
