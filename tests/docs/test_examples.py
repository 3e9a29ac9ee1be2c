"""Every Python block of README and docs compiles, and runs here or beside this file."""

from __future__ import annotations

import ast
import json
import logging
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from openfeature import api

import manor_mcp_interceptors
from manor_mcp_interceptors import (
    HttpxAuth,
    MCPTokenProvider,
    Settings,
    TokenUnavailableError,
    get_token,
)
from manor_mcp_interceptors._keys.keys import KeySource
from tests.cli.running import run as manor_mcp
from tests.docs.pages import PAGES, ROOT, blocks, example
from tests.docs.test_client_examples import CLIENTS
from tests.docs.test_server_examples import SERVERS
from tests.support import FLAG
from tests.support.uvicorn_server import serve

ALONE = [
    ("docs/clients.md", "In a coroutine"),
    ("docs/clients.md", "Where a token can go"),
    ("docs/clients.md", "Settings in code"),
    ("docs/clients.md", "Coming from your own `mcp_token.py`, or from `manor.mcp_auth`"),
    ("docs/flag.md", "Your own gate"),
    ("docs/reference.md", "Outcomes"),
    ("docs/reference.md", "Token source"),
    ("docs/telemetry.md", "Counters"),
    ("docs/testing.md", "Other test runners"),
]
"""Examples that run as they are."""
IN_THIS_FILE = [
    ("README.md", "A server and a client"),
    ("docs/flag.md", "flagd, from a file"),
    ("docs/telemetry.md", "See the log"),
    ("docs/testing.md", "Testing code that makes or serves calls"),
    ("docs/testing.md", "A 401 and its retry"),
]
OF_OTHERS = ("docs/frameworks.md",)
"""Pages whose examples have tests elsewhere."""


def test_every_python_block_compiles_and_imports_what_there_is() -> None:
    """Of every page; a name that has moved is found here."""
    for block in blocks("python"):
        for node in ast.walk(ast.parse(block.code)):
            if not isinstance(node, ast.ImportFrom):
                continue
            module = node.module or ""
            if module.partition(".")[0] == manor_mcp_interceptors.__name__:
                public = import_module(module).__all__
                assert {alias.name for alias in node.names} <= set(public), block[:2]


def test_every_python_block_is_run_by_some_test() -> None:
    """A new example is named in one of the lists."""
    run = {*ALONE, *IN_THIS_FILE}
    run |= {("docs/clients.md", heading) for heading in CLIENTS}
    run |= {("docs/servers.md", heading) for heading in SERVERS}
    found = {block[:2] for block in blocks("python") if block.page not in OF_OTHERS}
    assert found == run


@pytest.fixture
def whole_logging() -> Iterator[None]:
    """Restore what an example does to logging."""
    root, loggers = logging.getLogger(), logging.root.manager.loggerDict
    handlers, level = root.handlers[:], root.level
    disabled = {log: log.disabled for log in loggers.values() if isinstance(log, logging.Logger)}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for log, was in disabled.items():
        log.disabled = was


@pytest.mark.parametrize(("page", "heading"), ALONE)
def test_examples_that_run_alone(page: str, heading: str, env_on: None) -> None:
    """As a reader would run them."""
    exec(compile(example(page, heading), heading, "exec"), {"__name__": "__main__"})


def test_the_first_server_and_the_first_client_talk_to_each_other(
    env_on: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    whole_logging: None,
) -> None:
    """The README's first screen; without the flag the server refuses."""
    names: dict[str, Any] = {}
    exec(example("README.md", "A server and a client", 0), names)
    with serve(names["app"]) as url:
        code = example("README.md", "A server and a client", 1)
        exec(code.replace("http://localhost:8001", url), {"__name__": "__main__"})
        assert capsys.readouterr().out == "service-application\n"
        monkeypatch.setenv(FLAG.upper(), "off")
        MCPTokenProvider.reset()
        code = code.replace("mcp_http_client()", "mcp_http_client(required=True)")
        with pytest.raises(BaseException) as refused:  # noqa: PT011 - the SDK puts it into groups
            exec(code.replace("http://localhost:8001", url), {"__name__": "__main__"})
    assert TokenUnavailableError in set(causes(refused.value))


def causes(error: BaseException | None) -> Iterator[type[BaseException]]:
    while error is not None:
        yield type(error)
        for inner in getattr(error, "exceptions", ()):
            yield from causes(inner)
        error = error.__cause__ or error.__context__


def test_the_commands_of_the_first_screen_exist() -> None:
    """`manor-mcp` has each command with each option that a page types."""
    typed = {
        line.partition("#")[0].strip()
        for block in blocks("sh")
        for line in block.code.splitlines()
        if line.startswith("manor-mcp ")
    }
    used = {(shlex.split(line)[1], *re.findall(r"--[a-z]+", line)) for line in typed}
    names = {"bridge", "doctor", "edge", "jwks", "keygen", "serve-auth"}
    assert {command for command, *_ in used} == names
    for command, *options in used:
        page = manor_mcp(command, "--help").output
        assert [option for option in options if option not in page] == [], command


def test_flagd_in_file_mode(env_on: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The named services are on; the variable stands in until flagd answers."""
    monkeypatch.setenv(FLAG.upper(), "off")
    monkeypatch.setenv("MCP_AUTH_SUBJECT", "service-indexer")
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flags.json").write_text(example("docs/flag.md", "flagd, from a file", 0, "json"))
    try:
        exec(example("docs/flag.md", "flagd, from a file"), {})
        until = time.monotonic() + 10
        while get_token() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert get_token() is not None
    finally:
        api.shutdown()
        api.clear_providers()


@pytest.mark.parametrize("number", [0, 1])
def test_logging_shows_a_flag_that_is_off(number: int) -> None:
    """In a process of its own: logging belongs to the process."""
    code = example("docs/telemetry.md", "See the log", number)
    code += "import manor_mcp_interceptors\nmanor_mcp_interceptors.get_token()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "MCP auth flag_off: " in done.stderr


def test_dict_config_silences_a_logger_that_exists() -> None:
    """What the page warns of; the day it is no longer so, the page has to change."""
    code = example("docs/telemetry.md", "See the log", 1)
    code = code.replace('"disable_existing_loggers": False,', "")
    code += "manor_mcp_interceptors.get_token()\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


MY_SERVICE = """
import requests

from manor_mcp_interceptors import RequestsAuth


def search(url):
    return requests.get(url, auth=RequestsAuth(), timeout=5)
"""


def test_the_tests_of_the_page_on_testing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run as a user's own suite."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others' plugins take time
    pytester.makeconftest("pytest_plugins = ['manor_mcp_interceptors.pytest_plugin']")
    page = "docs/testing.md"
    pytester.makepyfile(
        my_service=MY_SERVICE,
        test_first=example(page, "Testing code that makes or serves calls"),
        test_second=example(page, "A 401 and its retry"),
    )
    pytester.syspathinsert()
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


@pytest.mark.slow
def test_the_commands_of_a_rotation(tmp_path: Path) -> None:
    """After each one the files hold what the table of the page says, with or without a newline."""
    (tmp_path / "mcp").write_text("the old secret")
    previous = tmp_path / "mcp-previous"
    settings = Settings(secret_file=tmp_path / "mcp", previous_secret_file=previous)
    states = []
    for block in (block for block in blocks("sh") if block.page == "docs/rotation.md"):
        code = block.code.replace("/run/secrets", str(tmp_path)).replace(
            "manor-mcp", f"{sys.executable} -m manor_mcp_interceptors"
        )
        subprocess.run(["sh", "-e", "-c", code], check=True, capture_output=True)
        keys = KeySource().verification_keys(settings)
        assert keys.current is not None
        states.append((keys.current.secret, [key.secret for key in keys.previous]))
    old, new = "the old secret", states[-1][0]
    assert len(new) == 64
    assert states == [(old, []), (old, [old, new]), (new, [old, new]), (new, [])]
    assert [path.name for path in tmp_path.iterdir()] == ["mcp"]


def test_the_wrong_class_is_the_error_that_troubleshooting_shows() -> None:
    """`HttpxAuth` in an httpx2 client."""
    import httpx2

    with pytest.raises(TypeError, match=r'Invalid "auth" argument: .* httpx2 takes Httpx2Auth'):
        httpx2.Client(auth=HttpxAuth())  # type: ignore[arg-type]


def test_json_blocks_are_json() -> None:
    """All of them."""
    for block in blocks("json"):
        json.loads(block.code)


def test_the_pip_lines_name_extras_that_exist() -> None:
    """In every page."""
    project = (ROOT / "pyproject.toml").read_text()
    listed = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    known = set(re.findall(r"^([a-z0-9]+) =", listed, re.MULTILINE))
    lists = re.findall(r"pip install \S*\[([a-z0-9,]+)\]", "\n".join(PAGES.values()))
    assert lists
    assert {extra for found in lists for extra in found.split(",")} <= known
