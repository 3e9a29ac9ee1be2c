"""Values that hold a secret or a token and show neither."""

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
    """Text that is sent as any other, and whose `repr` does not show it.

    Before 1.81, the error of grpcio for another, malformed entry lists a call's whole metadata.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<not shown>"
