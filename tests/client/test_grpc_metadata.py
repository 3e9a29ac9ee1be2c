from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace
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
    """Details as other people's interceptors make them: no tuple, an attribute of their own."""

    def __init__(self) -> None:
        self.method = "/m"
        self.timeout = 3.0
        self.metadata = [("a", "1")]  # type: ignore[assignment]
        self.deadline_source = "theirs"


@pytest.mark.parametrize(
    "metadata",
    [None, [], (), [("a", "1")], (("a", "1"),), grpc.aio.Metadata(("a", "1"), ("a", "2"))],
)
def test_the_entry_comes_last(metadata: Any) -> None:
    """The result is new, of the caller's type, and theirs is unchanged."""
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
def test_the_callers_own_is_found(metadata: Any, found: bool) -> None:
    """An authorization of the caller's counts in any case, as bytes, and where it is empty."""
    assert has_authorization(metadata) is found


def test_named_tuples_keep_their_attributes() -> None:
    """A named tuple is replaced as one, with what another interceptor set on it."""

    class Details(NamedDetails):
        pass

    details = Details("/m", None)
    details.extra = "kept"  # type: ignore[attr-defined]
    changed = replace_details(details, metadata=(ENTRY,))
    assert (type(changed), changed.method, changed.metadata) == (Details, "/m", (ENTRY,))
    assert changed.extra == "kept"
    assert details.metadata is None


def test_foreign_details_keep_everything() -> None:
    """Any other object is wrapped: its attributes, and the lack of some, are as they were."""
    foreign: Any = Foreign()
    changed: Any = replace_details(replace_details(foreign, metadata=(ENTRY,)), timeout=1.0)
    assert (changed.method, changed.timeout, changed.metadata) == ("/m", 1.0, (ENTRY,))
    assert changed.deadline_source == "theirs"
    assert not hasattr(changed, "compression")
    assert issubclass(type(changed), grpc.ClientCallDetails)
    assert (foreign.timeout, foreign.metadata) == (3.0, [("a", "1")])
    assert changed._replace(method="/n").metadata == (ENTRY,)


def test_a_generator_is_read_once() -> None:
    """Metadata that can be read once becomes a tuple; anything else is left alone."""
    details = SimpleNamespace(metadata=(entry for entry in [("a", "1")]))
    assert reusable(details).metadata == (("a", "1"),)
    plain = SimpleNamespace(metadata=[("a", "1")])
    assert reusable(plain) is plain
