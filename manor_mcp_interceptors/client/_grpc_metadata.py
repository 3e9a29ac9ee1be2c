"""Add one entry to a call's metadata; the caller's own objects stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from grpc import ClientCallDetails
from grpc.aio import Metadata

from manor_mcp_interceptors._bearer import METADATA_KEY

Entry = tuple[str, str]

_NAMES: Final = frozenset({METADATA_KEY, METADATA_KEY.encode()})


def has_authorization(metadata: Iterable[Any] | None) -> bool:
    """Return whether the caller set an `authorization` of their own, in any case.

    Upper case counts: gRPC refuses such a key, and that is for the caller to see.
    """
    return bool(metadata) and any(key.lower() in _NAMES for key, _ in metadata or ())


def add_entry(metadata: Any, entry: Entry) -> Any:
    """Return new metadata of the same type with `entry` at its end."""
    if metadata is None:  # most calls; the look at an abstract class's instances is a slow one
        return (entry,)
    if isinstance(metadata, Metadata):
        return Metadata(*metadata, entry)
    if isinstance(metadata, list):
        return [*metadata, entry]
    return (*metadata, entry) if metadata else (entry,)


def reusable(details: Any) -> Any:
    """Return details whose metadata can be read more than once; gRPC takes a generator, too."""
    metadata = reusable_metadata(details.metadata)
    return details if metadata is details.metadata else replace_details(details, metadata=metadata)


def reusable_metadata(metadata: Any) -> Any:
    """Return metadata that can be read more than once."""
    return tuple(metadata) if hasattr(metadata, "__next__") else metadata


def with_metadata(details: Any, metadata: Any) -> Any:
    """As ``replace_details(details, metadata=metadata)``, at a fifth of its cost."""
    kind = type(details)
    if not _has_metadata_third(kind) or getattr(details, "__dict__", None):  # type: ignore[arg-type]
        return replace_details(details, metadata=metadata)
    # As `_make` does it, which is a Python function.
    return tuple.__new__(kind, (details[0], details[1], metadata, *details[3:]))


@lru_cache(maxsize=16)
def _has_metadata_third(kind: type) -> bool:
    return issubclass(kind, tuple) and getattr(kind, "_fields", ())[2:3] == ("metadata",)


def replace_details(details: Any, **changes: Any) -> Any:
    """Return a copy of call details with `changes`, whoever made them; all else is kept."""
    if not hasattr(details, "_replace"):
        return _ChangedDetails(details, changes)
    changed = details._replace(**changes)
    extra = getattr(details, "__dict__", None)
    if extra:  # attributes set on a named tuple, which `_replace` leaves behind
        changed.__dict__.update(extra)
    return changed


class _ChangedDetails(ClientCallDetails):
    """Call details of another interceptor's own class, with some attributes replaced."""

    def __init__(self, original: Any, changes: dict[str, Any]) -> None:
        self._original = original
        self.__dict__.update(changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def _replace(self, **changes: Any) -> _ChangedDetails:
        return _ChangedDetails(self, changes)
