"""The README says what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from manor_mcp_interceptors import Outcome, Settings
from manor_mcp_interceptors._cli.demo.servers import Servers, start_servers
from manor_mcp_interceptors.settings import VARIABLES
from tests.support import SECRET

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table under `heading`, without its head."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_configuration_table_is_the_codes() -> None:
    """Each variable once, in order, with the default that the code has."""
    table = rows("Configuration")
    assert [name.strip("`") for name, _, _ in table] == [v.name for v in VARIABLES]
    defaults = Settings()
    for (name, _, shown), variable in zip(table, VARIABLES, strict=True):
        value = getattr(defaults, variable.field)
        if value is not None and variable.field != "subject":
            assert shown == f"`{value:g}`" if isinstance(value, float) else f"`{value}`", name


def test_the_outcomes_table_is_the_codes() -> None:
    """Each outcome once, in order."""
    table = rows("When there is no token")
    assert [name.strip("`") for name, _, _ in table] == [outcome.name for outcome in Outcome]


def test_ci_runs_the_commands_of_the_readme() -> None:
    """What a newcomer types is what is tested on every change."""
    script = (ROOT / ".ci" / "run").read_text()
    commands = re.findall(r"```sh\n(python3 -m venv .*)\n```", README)
    assert len(commands) == 2
    for command in commands:
        assert f"\n{command}\n" in script


CLIENT_EXAMPLES = {
    "The official MCP client": "mcp",
    "FastMCP": "mcp",
    "requests": "http",
    "httpx, sync and async": "http",
    "gRPC": "grpc",
    "grpc.aio": "grpc",
    "gRPC call credentials": "grpc",
    "Anything else": "http",
}


def examples(heading: str) -> list[str]:
    """Return the Python blocks under a heading of the third level."""
    section = re.split(r"\n##+ ", README.split(f"\n### {heading}\n")[1])[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Run the demo's servers, which note whom they saw."""
    with start_servers(Settings(secret=SECRET)) as running:
        yield running


@pytest.mark.parametrize("heading", CLIENT_EXAMPLES)
def test_each_client_example_runs_and_the_server_knows_the_caller(
    heading: str, servers: Servers, env_on: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is printed, but for the address."""
    monkeypatch.setenv("SERVICE_NAME", "a-reader")
    addresses = {
        "http://localhost:8000": servers.http.url,
        "http://localhost:8001/mcp": servers.mcp.url,
        "localhost:50051": servers.grpc.target,
        "localhost:50052": servers.grpc.local_target,
    }
    guestbook = getattr(servers, CLIENT_EXAMPLES[heading]).guestbook
    (code,) = examples(heading)
    for printed, real in addresses.items():
        code = code.replace(printed, real)
    guestbook.read()  # turn the page
    exec(compile(code, heading, "exec"), {"__name__": "__main__"})
    assert guestbook.read() == "a-reader"


def test_the_flag_file_is_the_one_that_the_tests_roll_out() -> None:
    """Word for word."""
    (printed,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    assert printed == (ROOT / "tests" / "data" / "flags.json").read_text()
