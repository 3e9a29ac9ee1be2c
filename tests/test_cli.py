"""The command line says what it takes, and what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from manor_mcp_interceptors._cli import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help_is_given(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to the standard output, and is a success."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert "usage: python -m manor_mcp_interceptors" in out
    assert "demo" in out


@pytest.mark.parametrize("arguments", [[], ["dmeo"], ["demo", "more"], ["demo", "--fast"]])
def test_an_unknown_command_gets_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not understood is not guessed at: usage to the standard error, and status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert "usage: python -m manor_mcp_interceptors" in err


WITHOUT = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
from manor_mcp_interceptors._cli import main
sys.exit(main(["demo"]))
"""


def without(module: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in an interpreter that cannot import `module`."""
    command = [sys.executable, "-c", WITHOUT.format(module=module)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "module",
    ["requests", "httpx", "httpx2", "grpc", "google.protobuf", "fastapi", "mcp", "uvicorn"],
)
def test_a_missing_extra_gets_the_line_that_installs_it(module: str) -> None:
    """The demo names what is missing, and the one command that brings everything."""
    done = without(module)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"The demo needs {module}: pip install 'manor-mcp-interceptors[all]'\n")


def test_a_fault_of_our_own_is_no_missing_extra() -> None:
    """A module of ours that cannot be found is shown as the fault it is."""
    done = without("manor_mcp_interceptors._demo.report")

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr
