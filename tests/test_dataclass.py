from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from functools import partial
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from manor_mcp_interceptors import Outcome, Settings, TokenStatus, diagnose
from manor_mcp_interceptors._dataclass import dataclass, field, replace
from manor_mcp_interceptors._flags.gates import FlagQuestion
from manor_mcp_interceptors.outcomes import Decision
from tests.support import SECRET


@dataclasses.dataclass(frozen=True, slots=True)
class Real:
    first: int
    hidden: str = dataclasses.field(default="x", repr=False)
    apart: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Ours:
    first: int
    hidden: str = field(default="x", repr=False)
    apart: int = field(default=0, compare=False)


@pytest.mark.parametrize("kind", [Real, Ours])
def test_ours_does_what_the_real_one_does(kind: Any) -> None:
    """Construction, repr, comparison, hash and immutability, side by side."""
    value = kind(1, apart=5)
    assert repr(value) == f"{kind.__name__}(first=1, apart=5)"
    assert value == kind(1, "x", 6) != kind(1, "y", 5)
    assert value != (1, "x", 5)
    assert hash(value) == hash(kind(1, apart=9)) != hash(kind(2))
    assert value.__slots__ == kind.__match_args__ == ("first", "hidden", "apart")
    for change in (partial(setattr, value, "first", 2), partial(delattr, value, "first")):
        with pytest.raises(dataclasses.FrozenInstanceError, match="'first'"):
            change()
    assert value.first == 1
    assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == copy.copy(value) == value
    assert pickle.loads(pickle.dumps(value)).apart == 5


@pytest.mark.parametrize("kind", [Real, Ours])
def test_dataclasses_own_functions(kind: Any) -> None:
    """`dataclasses` and `inspect` see a dataclass."""
    value: Any = kind(1)
    assert dataclasses.is_dataclass(cast("object", kind))
    assert dataclasses.is_dataclass(cast("object", value))
    assert dataclasses.asdict(value) == {"first": 1, "hidden": "x", "apart": 0}
    assert dataclasses.replace(value, first=2) == kind(2)
    told = [(f.name, f.type, f.default, f.repr, f.compare) for f in dataclasses.fields(kind)]
    assert told == [
        ("first", "int", dataclasses.MISSING, True, True),
        ("hidden", "str", "x", False, True),
        ("apart", "int", 0, True, False),
    ]
    assert str(inspect.signature(kind)).startswith("(first: 'int', hidden: 'str' = 'x'")


@pytest.mark.parametrize("args", [(), (1, "x", 0, 4)])
@pytest.mark.parametrize("kind", [Real, Ours])
def test_wrong_arguments(kind: Any, args: tuple[Any, ...]) -> None:
    """Too few and too many are Python's own error."""
    with pytest.raises(TypeError, match=r"Ours\.__init__|Real\.__init__"):
        kind(*args)


def test_settings_are_a_dataclass_to_whoever_asks() -> None:
    """A changed copy is checked as a new one is; arguments have names; the secret is not shown."""
    settings = Settings(secret=SECRET)
    assert dataclasses.replace(settings, issuer="a").issuer == replace(settings, issuer="a").issuer
    assert dataclasses.replace(settings, issuer="a").secret == SECRET
    with pytest.raises(ValueError, match="MCP_AUTH_TTL_SECONDS"):
        dataclasses.replace(settings, ttl_seconds=0)
    with pytest.raises(TypeError):
        Settings(SECRET)  # type: ignore[call-arg]
    assert SECRET not in repr(settings)
    assert "secret: 'str | None' = None" in str(inspect.signature(Settings))


def test_a_status_on_a_health_page() -> None:
    """FastAPI takes what `diagnose` returns as an answer, and describes it."""
    app = FastAPI()
    app.get("/health", response_model=TokenStatus)(diagnose)
    with TestClient(app) as client:
        assert client.get("/health").json() == dataclasses.asdict(diagnose())
        known = client.get("/openapi.json").json()["components"]["schemas"]
    assert "seconds_to_expiry" in known["TokenStatus"]["properties"]


def test_values_are_keys() -> None:
    """Equal questions are one key: that is how a gate's answer is shared."""
    first, second = (FlagQuestion("flag", "subject", "issuer", "audience") for _ in range(2))
    assert {first: 1}[second] == 1
    assert first != replace(first, key="other")


def test_what_carries_a_token_shows_none() -> None:
    """Its fields that hold one are no part of its repr."""
    shown = repr(Decision("a token", "Bearer it", ("a", "it"), Outcome.OK, "why", 1.0))
    assert "a token" not in shown
    assert "it" not in shown.replace("valid_until", "")


def test_what_can_change_is_for_the_real_one() -> None:
    """There is one kind of class here: any other is refused, not made differently."""
    with pytest.raises(TypeError, match="dataclasses itself"):
        dataclass(frozen=False, slots=True)


def test_the_import_brings_neither_dataclasses_nor_inspect() -> None:
    """That is the point: together they take as long as all the rest of this package."""
    code = (
        "import sys; before = set(sys.modules); import manor_mcp_interceptors as m; "
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert not {"dataclasses", "inspect", "asyncio", "concurrent.futures"} & {*done.stdout.split()}
