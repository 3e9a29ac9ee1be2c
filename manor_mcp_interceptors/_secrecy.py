"""What every value that holds a secret or a token has in common."""

from __future__ import annotations

from typing import Any


class HoldsSecret:
    """A value that stays in its process: a copy is the value itself, a pickle is refused.

    A class that can do without its secret may pickle the rest: it overrides ``__reduce__``, which
    cloudpickle honours as well (unlike ``__getstate__`` of a frozen dataclass on Python 3.10).
    """

    __slots__ = ()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, _: object) -> Any:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        name = type(self).__name__
        raise TypeError(f"{name} holds a secret or a token and cannot be pickled")
