"""Every public value is a plain value to Python's own tools."""

from __future__ import annotations

import copy
import inspect
import pickle
import pprint
import typing
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import cloudpickle
import pytest
from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.testclient import TestClient

from manor_mcp_interceptors import (
    MCPTokenProvider,
    Settings,
    TokenVerifier,
    diagnose,
    get_token,
)
from manor_mcp_interceptors.stats import process_stats
from manor_mcp_interceptors.testing import RecordedRequest
from tests.support import SECRET
from tests.support.holders import HOLDERS, is_shown

VALUES: dict[str, Callable[[], Any]] = {
    "Settings": lambda: Settings(secret=SECRET, allowed_hosts=("a.example",)),
    "TokenStatus": diagnose,
    "VerifiedToken": lambda: TokenVerifier().verify(str(get_token())),
    "ProviderStats": lambda: MCPTokenProvider.get_instance().stats(),
    "VerifierStats": lambda: TokenVerifier().stats(),
    "ProcessStats": process_stats,
    "RecordedRequest": lambda: RecordedRequest("GET", "/", authorized=True, claims={"a": [1]}),
}


@pytest.fixture(params=VALUES)
def value(request: pytest.FixtureRequest, env_on: None) -> Any:
    get_token()
    return VALUES[request.param]()


def test_copies_are_equal(value: Any) -> None:
    """`copy`, `deepcopy` and `replace`; a copy keeps the secret."""
    assert copy.copy(value) == copy.deepcopy(value) == replace(value) == value


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_pickle_is_equal_but_for_secrets(value: Any, pickler: Any) -> None:
    """What leaves the process holds neither a secret nor a token."""
    data = pickler.dumps(value)
    assert SECRET.encode() not in data
    assert (get_token() or "").encode() not in data
    without = replace(value, secret=None) if isinstance(value, Settings) else value
    assert pickle.loads(data) == without


@pytest.mark.parametrize("name", sorted(set(HOLDERS) - {"a misplaced secret"}))  # a path is pickled
@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_pickle_plain_or_by_cloudpickle_holds_neither_secret_nor_token(
    env_on: None, pickler: Any, name: str
) -> None:
    """What is nothing without its secret refuses to be pickled."""
    held = HOLDERS[name]()
    try:
        data = pickler.dumps(held)
    except TypeError as error:
        assert str(error).endswith("holds a secret or a token and cannot be pickled")
    else:
        assert not is_shown(data.decode("latin-1"), held)


@pytest.mark.parametrize("name", sorted(set(HOLDERS) - {"a partial function"}))
def test_a_copy_keeps_the_secret(env_on: None, name: str) -> None:
    """It is the same process: the copy is the object itself."""
    held = HOLDERS[name]()
    assert copy.copy(held) is copy.deepcopy(held) is held


def test_the_tools_of_the_standard_library_read_it(value: Any) -> None:
    """`fields`, `asdict`, `pprint`, type hints, signatures, a subclass that is a dataclass."""
    names = [field.name for field in fields(value)]
    assert list(asdict(value)) == names
    assert type(value).__name__ in pprint.pformat(value)
    assert SECRET not in pprint.pformat(value)
    assert list(typing.get_type_hints(type(value))) == names
    assert list(inspect.signature(type(value), eval_str=True).parameters) == names

    @dataclass(frozen=True)
    class Sub(type(value)):  # type: ignore[misc]
        extra: int = 0

    assert Sub(**{name: getattr(value, name) for name in names}, extra=1).extra == 1


def test_fastapi_encodes_it(value: Any) -> None:
    """As it encodes any dataclass."""
    assert list(jsonable_encoder(value)) == [field.name for field in fields(value)]


def test_fastapi_returns_it(env_on: None) -> None:
    """``return caller``, ``return process_stats()``."""
    app = FastAPI()
    verified = TokenVerifier().verify(str(get_token()))
    app.get("/caller")(lambda: verified)
    app.get("/stats")(process_stats)
    client = TestClient(app)
    assert client.get("/caller").json()["claims"]["iss"] == "manor-internal"
    assert client.get("/stats").json()["client"]["mints"] >= 1


def test_pytest_shows_what_differs(pytester: pytest.Pytester) -> None:
    """An assertion about two values names the field."""
    pytester.makepyfile(
        "from dataclasses import replace\n"
        "from manor_mcp_interceptors import diagnose\n"
        "def test_it():\n"
        "    assert diagnose() == replace(diagnose(), flag='another')\n"
    )
    result = pytester.runpytest("-vv")
    result.stdout.fnmatch_lines(["*flag: 'manor_search_enable_api_token_v1' != 'another'*"])
