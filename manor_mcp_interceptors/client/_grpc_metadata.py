"""Add one entry to a call's metadata; the caller's objects stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from grpc import ClientCallDetails
from grpc.aio import Metadata

from manor_mcp_interceptors._bearer import METADATA_KEY

_NAMES: Final = frozenset({METADATA_KEY, METADATA_KEY.encode()})


def has_authorization(metadata: Iterable[Any] | None) -> bool:
    """Return whether the caller set `authorization`, in any case.

    Upper case counts: gRPC refuses such a key, and the caller must see that.
    """
    return any(key.lower() in _NAMES for key, _ in metadata) if metadata else False


def add_entry(metadata: Any, entry: tuple[str, str]) -> Any:
    """Return new metadata of the same type with `entry` at its end."""
    if metadata is None:
        return (entry,)
    if isinstance(metadata, Metadata):
        return Metadata(*metadata, entry)
    if isinstance(metadata, list):
        return [*metadata, entry]
    return (*metadata, entry)


def reusable(metadata: Any) -> Any:
    """Return metadata that can be read more than once; gRPC accepts a generator too."""
    return tuple(metadata) if hasattr(metadata, "__next__") else metadata


def replace_details(details: Any, **changes: Any) -> Any:
    """Return a copy of call details, of any class, with `changes`; all else is kept."""
    if not hasattr(details, "_replace"):
        return _ChangedDetails(details, changes)
    changed = details._replace(**changes)
    extra = getattr(details, "__dict__", None)
    if extra:  # attributes set on a named tuple: `_replace` does not copy them
        changed.__dict__.update(extra)
    return changed


class _ChangedDetails(ClientCallDetails):
    """Call details of another interceptor's class, with some attributes replaced."""

    def __init__(self, original: Any, changes: dict[str, Any]) -> None:
        self._original = original
        self.__dict__.update(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def _replace(self, **changes: Any) -> _ChangedDetails:
        return _ChangedDetails(self, changes)
