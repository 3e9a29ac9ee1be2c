"""What an object holds: to see that a thing is not among it, or how large it is."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType
from typing import Any


def reachable(start: object) -> list[Any]:
    """Return everything that `start` refers to, without classes, modules and functions."""
    found: dict[int, Any] = {}
    waiting = [start]
    while waiting:
        each = waiting.pop()
        if id(each) not in found and not isinstance(each, (type, ModuleType, FunctionType)):
            found[id(each)] = each
            waiting += gc.get_referents(each)
    return list(found.values())
