"""PyJWT that cannot be imported: the reason names the module that failed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from manor_mcp_interceptors.errors import import_problem

SUB_INTERPRETER = """
import jwt  # in the main interpreter first: cryptography may be loaded into one alone
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
made = interpreters.create()
print(interpreters.run_string(made, '''
from manor_mcp_interceptors import Settings, MCPTokenProvider
from manor_mcp_interceptors.testing import StaticGate
status = MCPTokenProvider(Settings(secret="x" * 32), gate=StaticGate()).status()
print(status.outcome, status.reason, sep=": ")
'''))
"""


def problem_of(code: str, missing: str = "") -> str:
    with pytest.raises(ImportError) as caught:
        exec(code, {"__name__": "some.module"})
    return import_problem(caught.value)


def test_only_a_missing_pyjwt_is_to_be_installed() -> None:
    """A module that PyJWT imports, or another package named jwt, is not."""
    missing = ModuleNotFoundError("No module named 'jwt'", name="jwt")
    assert import_problem(missing).endswith(": pip install PyJWT")
    for name in ("cryptography", "jwt.algorithms"):
        problem = import_problem(ModuleNotFoundError(name=name))
        assert f"the import of {name} failed (ModuleNotFoundError)" in problem
        assert "pip install" not in problem
    shadowed = import_problem(ImportError("cannot import name 'PyJWS'", name="jwt"))
    assert "pip install" not in shadowed


def test_an_import_error_without_a_name_goes_by_the_module_that_raised_it() -> None:
    """As an extension module's does."""
    assert "the import of some.module failed" in problem_of("raise ImportError('no')")


def test_a_sub_interpreter_reports_cryptography() -> None:
    """PyJWT is installed there, and what it imports cannot be loaded twice."""
    command = [sys.executable, "-W", "ignore", "-c", SUB_INTERPRETER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    reason = done.stdout.partition("\n")[0]
    assert reason.startswith("pyjwt_missing: PyJWT cannot be imported: the import of "), done
    assert "cryptography" in reason or "_cffi_backend" in reason
    assert "pip install" not in done.stdout
