"""`dataclasses.dataclass(frozen=True, slots=True)`, as far as the core needs it.

Importing `dataclasses` imports `inspect`, and it compiles six functions for each class: together
16 of the 38 ms that importing this package took. Here it is one, the constructor. To type
checkers these are the real names, and to `dataclasses` the classes made here are its own:
`fields`, `replace` and `asdict` take them.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

__all__ = ["dataclass", "field", "replace"]

_MISSING: Final = object()
_OF_NO_SLOTS: Final = ("__dict__", "__weakref__")


class _Field:
    """A field's default, and whether its value is shown and compared."""

    __slots__ = ("compare", "default", "repr")

    def __init__(self, default: Any = _MISSING, *, repr: bool = True, compare: bool = True) -> None:  # noqa: A002
        self.default = default
        self.repr = repr
        self.compare = compare

    def options(self) -> dict[str, Any]:
        """Return what `dataclasses.field` would be told."""
        default = {} if self.default is _MISSING else {"default": self.default}
        return {"repr": self.repr, "compare": self.compare, **default}


def _dataclass(
    *, frozen: bool, slots: bool, kw_only: bool = False
) -> Callable[[type[Any]], type[Any]]:
    if not (frozen and slots):
        raise TypeError("a class that is to change, or has no slots, is for dataclasses itself")
    return lambda cls: _remade(cls, kw_only=kw_only)


def _remade(cls: type[Any], *, kw_only: bool) -> type[Any]:
    """Return `cls` anew: a class that exists takes no slots any more."""
    namespace = {key: kept for key, kept in cls.__dict__.items() if key not in _OF_NO_SLOTS}
    fields = {name: _field(namespace.pop(name, _MISSING)) for name in cls.__annotations__}
    namespace |= {
        **_methods(fields),
        "__slots__": tuple(fields),
        "__match_args__": () if kw_only else tuple(fields),
        "__qualname__": cls.__qualname__,
        "__dataclass_fields__": _Fields(fields, kw_only=kw_only),
    }
    made: type[Any] = type(cls)(cls.__name__, cls.__bases__, namespace)  # type: ignore[misc]
    made.__init__ = _constructor(made, fields, kw_only=kw_only)
    return made


def _field(default: Any) -> _Field:
    return default if isinstance(default, _Field) else _Field(default)


def _constructor(made: type[Any], fields: dict[str, _Field], *, kw_only: bool) -> Any:
    """Compile ``__init__``: to call one that takes any arguments costs three times as much."""
    known: dict[str, Any] = {}
    parameters, lines = ["self", *("*" for _ in range(kw_only))], []
    for name, its in fields.items():
        known[f"_set_{name}"] = made.__dict__[name].__set__  # past `__setattr__`
        known[f"_default_{name}"] = its.default
        parameters.append(name if its.default is _MISSING else f"{name}=_default_{name}")
        lines.append(f"  _set_{name}(self, {name})")
    if "__post_init__" in made.__dict__:
        # First, as a traceback that prints locals prints no secret.
        lines += [f"  del {', '.join(fields)}", "  self.__post_init__()"]
    exec("\n".join([f"def __init__({', '.join(parameters)}):", *lines]), known)  # noqa: S102 - our own words
    constructor = known["__init__"]
    constructor.__qualname__ = f"{made.__qualname__}.__init__"
    constructor.__annotations__ = {**made.__annotations__, "return": "None"}
    return constructor


def _methods(fields: dict[str, _Field]) -> dict[str, Any]:
    shown = [name for name, its in fields.items() if its.repr]
    compared = attrgetter(*[name for name, its in fields.items() if its.compare])

    def __repr__(self: Any) -> str:  # noqa: N807
        values = ", ".join([f"{name}={getattr(self, name)!r}" for name in shown])
        return f"{type(self).__qualname__}({values})"

    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        return compared(self) == compared(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(compared(self))

    own = (__repr__, __eq__, __hash__)
    return {**{method.__name__: method for method in own}, **_COMMON}


def _refuse(_self: Any, name: str, *_value: Any) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot change field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__slots__]


def _setstate(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__slots__, state):  # noqa: B905 - 3.10; one for each
        object.__setattr__(self, name, value)


def _replace(value: Any, /, **changes: Any) -> Any:
    # Taken out of `changes`, which would show a secret among them where the class raises.
    kept = value.__slots__
    return type(value)(**{n: changes.pop(n, getattr(value, n)) for n in kept}, **changes)


_COMMON: Final = {
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
    "__replace__": _replace,
}


class _Fields:
    """What `dataclasses` asks of a class, made when it asks."""

    def __init__(self, fields: dict[str, _Field], *, kw_only: bool) -> None:
        self._fields = fields
        self._kw_only = kw_only

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        from dataclasses import field, make_dataclass

        kinds = owner.__annotations__
        fields = [(name, kinds[name], field(**its.options())) for name, its in self._fields.items()]
        twin: Any = make_dataclass(owner.__name__, fields, kw_only=self._kw_only)
        return twin.__dataclass_fields__


if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:
    dataclass, field, replace = _dataclass, _Field, _replace
