"""The names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import manor_mcp_interceptors

PUBLIC = [
    "AiohttpAuth",
    "Clock",
    "Gate",
    "GrpcAuthInterceptor",
    "Httpx2Auth",
    "HttpxAuth",
    "MCPAuthError",
    "MCPTokenProvider",
    "OpenFeatureGate",
    "Outcome",
    "Reason",
    "RequestsAuth",
    "Settings",
    "SettingsError",
    "TokenRejectedError",
    "TokenSource",
    "TokenStatus",
    "TokenUnavailableError",
    "TokenVerifier",
    "VerifiedToken",
    "__version__",
    "diagnose",
    "get_auth_headers",
    "get_token",
    "grpc_aio_authenticated_channel",
    "grpc_aio_interceptors",
    "grpc_authenticated_channel",
    "grpc_call_credentials",
    "is_enabled",
    "mcp_auth",
    "mcp_http_client",
]
ADAPTERS = {
    "AiohttpAuth": "aiohttp",
    "GrpcAuthInterceptor": "grpc",
    "Httpx2Auth": "httpx2",
    "HttpxAuth": "httpx",
    "RequestsAuth": "requests",
    "grpc_aio_authenticated_channel": "grpc",
    "grpc_aio_interceptors": "grpc",
    "grpc_authenticated_channel": "grpc",
    "grpc_call_credentials": "grpc",
}


def run(code: str) -> str:
    """Run `code` in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these() -> None:
    """Adding or dropping one is a decision, not an accident."""
    assert sorted(manor_mcp_interceptors.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    """The lazy ones too."""
    assert getattr(manor_mcp_interceptors, name) is not None


def test_dir_shows_the_lazy_names_too() -> None:
    """In a process where none has been used: what completes names asks for it."""
    code = """
import sys, manor_mcp_interceptors as m
print(set(m.__all__) <= set(dir(m)), "jwt" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any other module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = manor_mcp_interceptors.no_such_name


def test_importing_the_package_imports_no_third_party_module() -> None:
    """No transport, no framework, no PyJWT, and no asyncio."""
    code = """
import sys
before = set(sys.modules)
import manor_mcp_interceptors
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names) - {"manor_mcp_interceptors"}))
print("asyncio" in sys.modules)
"""
    assert run(code).splitlines() == ["", "False"]


def test_a_decision_without_a_token_imports_no_pyjwt() -> None:
    """A service with the flag off pays for nothing."""
    code = """
import sys, manor_mcp_interceptors
assert manor_mcp_interceptors.get_token() is None
print("jwt" in sys.modules)
"""
    assert run(code) == "False\n"


BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{top!r}}", name=top)

sys.meta_path.insert(0, Blocker())
"""
LIBRARIES = {
    "aiohttp",
    "fastapi",
    "grpc",
    "httpx",
    "httpx2",
    "mcp",
    "openfeature",
    "requests",
    "starlette",
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_needs_only_its_own_library(name: str) -> None:
    """With every other extra absent, it imports."""
    code = BLOCK.format(blocked=LIBRARIES - {ADAPTERS[name]})
    assert "ok" in run(code + f"from manor_mcp_interceptors import {name}; print('ok')")


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_missing_library_is_an_instruction(name: str) -> None:
    """The error says what to install, where the name is used."""
    library = ADAPTERS[name]
    code = BLOCK.format(blocked={library})
    code += f"""
from manor_mcp_interceptors import {name}
try:
    {name}()
except ModuleNotFoundError as error:
    print(error.name, error)
"""
    out = run(code)
    assert out.startswith(f"{library} ")
    assert f"pip install 'manor-mcp-interceptors[{library}]'" in out


def test_reading_a_name_whose_library_is_missing_raises_nothing() -> None:
    """`hasattr`, `help`, ``import *``, `inspect.getmembers` and `create_autospec` read them all."""
    code = BLOCK.format(blocked=LIBRARIES | {"jwt"})
    code += "sys.meta_path[-1].find_distributions = lambda *_: []  # nor its own metadata"
    code += """
import inspect, pydoc
from unittest.mock import create_autospec
import manor_mcp_interceptors as m
from manor_mcp_interceptors import *
print(all(hasattr(m, name) for name in m.__all__))
print(set(m.__all__) <= dict(inspect.getmembers(m)).keys())
try:
    TokenVerifier()
except ModuleNotFoundError as error:
    print(error)
create_autospec(m)
pydoc.render_doc(m)
"""
    assert run(code) == "True\nTrue\nNo module named 'jwt'\n"
