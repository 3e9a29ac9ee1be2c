from __future__ import annotations

from collections import namedtuple
from operator import methodcaller
from typing import Any

import grpc
import pytest

from manor_mcp_interceptors.client._grpc_metadata import (
    add_entry,
    has_authorization,
    replace_details,
    reusable,
)

ENTRY = ("authorization", "Bearer t")
NamedDetails = namedtuple("NamedDetails", ["method", "metadata"])  # noqa: PYI024 - as grpc's is


class Foreign(grpc.ClientCallDetails):
    """Details of another interceptor: no tuple, and one more attribute."""

    def __init__(self) -> None:
        self.method = "/m"
        self.timeout = 3.0
        self.metadata = [("a", "1")]  # type: ignore[assignment]
        self.deadline_source = "another"


@pytest.mark.parametrize(
    "metadata",
    [None, [], (), [("a", "1")], (("a", "1"),), grpc.aio.Metadata(("a", "1"), ("a", "2"))],
)
def test_the_entry_comes_last(metadata: Any) -> None:
    """The result is new and of the caller's type; the caller's object is unchanged."""
    before = list(metadata or ())
    result = add_entry(metadata, ENTRY)
    assert list(result) == [*before, ENTRY]
    assert type(result) is (tuple if metadata is None else type(metadata))
    assert list(metadata or ()) == before


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        (None, False),
        ([], False),
        ([("x-authorization", "v")], False),
        ([("a", "1"), ("authorization", "")], True),
        ([("Authorization", "v")], True),
        ([(b"authorization", b"v")], True),
        (grpc.aio.Metadata(("authorization", "v")), True),
    ],
)
def test_the_callers_authorization_is_found(metadata: Any, found: bool) -> None:
    """It counts in upper and lower case, as bytes, and if it is empty."""
    assert has_authorization(metadata) is found


def test_named_tuples_keep_their_attributes() -> None:
    """A named tuple stays one, with the attributes that another interceptor set on it."""

    class Details(NamedDetails):
        pass

    details = Details("/m", None)
    details.extra = "kept"  # type: ignore[attr-defined]
    changed = replace_details(details, metadata=(ENTRY,))
    assert (type(changed), changed.method, changed.metadata) == (Details, "/m", (ENTRY,))
    assert changed.extra == "kept"
    assert details.metadata is None


def test_foreign_details_keep_everything() -> None:
    """Any other object is wrapped; an attribute that it lacks is still missing."""
    foreign: Any = Foreign()
    changed: Any = replace_details(replace_details(foreign, metadata=(ENTRY,)), timeout=1.0)
    assert (changed.method, changed.timeout, changed.metadata) == ("/m", 1.0, (ENTRY,))
    assert changed.deadline_source == "another"
    assert not hasattr(changed, "compression")
    assert issubclass(type(changed), grpc.ClientCallDetails)
    assert (foreign.timeout, foreign.metadata) == (3.0, [("a", "1")])
    assert methodcaller("_replace", method="/n")(changed).metadata == (ENTRY,)


def test_a_generator_is_read_once() -> None:
    """Metadata that can be read only once becomes a tuple; other metadata is left alone."""
    assert reusable(entry for entry in [("a", "1")]) == (("a", "1"),)
    plain = [("a", "1")]
    assert reusable(plain) is plain
