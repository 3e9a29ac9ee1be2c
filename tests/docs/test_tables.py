"""README and docs agree with the code: tables, messages, names, links, commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import manor_mcp_interceptors
from manor_mcp_interceptors import Outcome, Reason, Settings, pytest_plugin
from manor_mcp_interceptors._cli.commands import app
from manor_mcp_interceptors._telemetry.otel import FINGERPRINT, METRICS, ROLE, SECRET_INFO
from manor_mcp_interceptors.settings import VARIABLES
from tests.docs.pages import PAGES, ROOT, anchors, example, links, names, rows
from tests.support import FLAG
from tests.test_architecture import FILES, is_public, name_of

PACKAGE = Path(manor_mcp_interceptors.__file__).parent
REFERENCE = "docs/reference.md"


def shown_default(field: str) -> str | None:
    """Return the default of a setting as the tables show it; None if they have words."""
    value = getattr(Settings(), field)
    if value is None or field == "subject":
        return None
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_the_table_of_variables_is_the_codes() -> None:
    """Each variable once, in order, with the default that the code has."""
    table = rows(REFERENCE, "Variables")
    assert [name.strip("`") for name, _, _ in table] == [v.name for v in VARIABLES]
    for (name, _, shown), variable in zip(table, VARIABLES, strict=True):
        assert shown_default(variable.field) in (None, shown), name


def test_the_variables_of_the_first_day_are_some_of_them() -> None:
    """With the same defaults."""
    fields = {variable.name: variable.field for variable in VARIABLES}
    for cell, _, shown in rows("README.md", "The variables of the first day"):
        for name in names([cell]):
            assert shown_default(fields[name]) in (None, shown), name


def test_every_variable_that_a_page_names_exists() -> None:
    """Readers copy them."""
    known = {variable.name for variable in VARIABLES} | {"MCP_AUTH_TTL"}  # doctor's example
    found = {name for text in PAGES.values() for name in re.findall(r"\bMCP_AUTH_[A-Z_]+\b", text)}
    assert found - known == set()
    flags = {name for text in PAGES.values() for name in re.findall(r"MANOR_\w+_V1", text)}
    assert flags == {FLAG.upper()}


def test_the_table_of_outcomes_is_the_codes() -> None:
    """Each outcome once, in order."""
    table = rows(REFERENCE, "Outcomes")
    assert [name.strip("`") for name, _, _ in table] == [outcome.name for outcome in Outcome]


def test_the_table_of_reasons_is_the_codes() -> None:
    """Each reason once, in order."""
    table = rows(REFERENCE, "Reasons")
    assert names([reasons for reasons, _ in table]) == [reason.value for reason in Reason]


def test_the_table_of_metrics_is_the_codes() -> None:
    """Each metric with its attributes."""
    table = [(metric.strip("`"), names([words])) for metric, words, _ in rows(REFERENCE, "Metrics")]
    counters = [(name, list(attributes)) for name, _, _, attributes in METRICS.values()]
    assert table == [*counters, (SECRET_INFO, [ROLE, FINGERPRINT])]


def test_the_table_of_public_names_is_the_codes() -> None:
    """Each with the module that users import it from; no public module has another name."""
    listed = set(pytest_plugin.__all__)
    for module, cell in rows(REFERENCE, "Public names"):
        public = import_module(module.strip("`")).__all__
        assert sorted(names([cell])) == sorted(public), module
        listed |= set(public)
    for path in FILES:
        module = f"manor_mcp_interceptors.{name_of(path)}".removesuffix(".__init__")
        if is_public(path) and not module.endswith(("__init__", ".client", ".server")):
            assert set(import_module(module).__all__) <= listed, module


def test_the_least_versions_are_those_of_the_package() -> None:
    """Of whatever an extra installs; the tests are run on them too."""
    required = (ROOT / "pyproject.toml").read_text().split("\ndependencies")[1]
    required = required.split("\nall = [")[0]
    shown = " ".join(least for _, _, least in rows(REFERENCE, "Compatibility"))
    for name, version in re.findall(r'"([\w-]+)>=([\d.]+)"', required):
        assert version in re.findall(r"[\d.]+", shown), name


def test_the_table_of_fixtures_is_the_plugins() -> None:
    """Each fixture once."""
    table = rows("docs/testing.md", "Testing code that makes or serves calls")
    assert sorted(names([cell for cell, _ in table])) == sorted(pytest_plugin.__all__)


def test_the_table_of_commands_is_the_command_lines() -> None:
    """Each command, with each of its options."""
    text = " ".join(cell for cell, _, _ in rows("docs/doctor.md", "Commands"))
    for command in app.registered_commands:
        function = command.callback
        assert function is not None
        assert f"`{option_of(function.__name__)}" in text
        for name in set(function.__annotations__) - {"return", "token", "files", "name"}:
            assert f"--{option_of(name)}" in text, (function.__name__, name)


def option_of(name: str) -> str:
    """Return a Python name as the command line has it."""
    return name.replace("_", "-")


class Logged(ast.NodeVisitor):
    """The message of each call of `log` in a module."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._texts: dict[str, str] = {}

    def visit_Assign(self, node: ast.Assign) -> None:
        match node:
            case ast.Assign([ast.Name(name)], ast.Constant(str(text))):
                self._texts[name] = text
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node:
            case ast.Call(ast.Name("log"), [_, ast.Constant(str(text)), *_]):
                self.messages.append(text)
            case ast.Call(ast.Name("log"), [_, ast.Name(name), *_]):
                self.messages.append(self._texts[name])
        self.generic_visit(node)


def logged_messages() -> Iterator[str]:
    for path in PACKAGE.rglob("*.py"):
        visitor = Logged()
        visitor.visit(ast.parse(path.read_text()))
        yield from visitor.messages


def constants() -> str:
    """Return every text in the code, the constant parts of f-strings too."""
    trees = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return "\n".join(n.value for n in nodes if isinstance(n, ast.Constant) and type(n.value) is str)


def documented_messages() -> list[str]:
    return [text for _, cell, _ in rows(REFERENCE, "Log lines") for text in names([cell])]


def test_every_log_line_is_in_the_table() -> None:
    """Whatever stands in place of its `%s`."""
    messages = set(logged_messages())
    assert len(messages) > 10
    documented = documented_messages()
    patterns = {m: re.sub("%[sd]", ".+", re.escape(m).replace("\\%", "%")) for m in messages}
    missing = [m for m, p in patterns.items() if not any(re.fullmatch(p, d) for d in documented)]
    assert missing == []


def test_every_line_of_that_table_is_in_the_code() -> None:
    """Each part of it that does not stand for something."""
    code = constants()
    words = "|".join(outcome.value for outcome in Outcome)
    for message in documented_messages():
        text = re.sub(f"MCP auth ({words}|<outcome>): ", "MCP auth %s: ", message)
        parts = re.split(r"<[^>]+>|%s|\b32\b|MCP auth verification: ", text)
        missing = [part for part in parts if len(part.strip()) > 1 and part.strip() not in code]
        assert missing == [], message


def test_no_link_is_dead() -> None:
    """Files, and headings in them."""
    dead = []
    for page in PAGES:
        for link in links(page):
            if re.match("https?:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            name = str(target.resolve().relative_to(ROOT))
            if not target.exists() or (anchor and anchor not in anchors(name)):
                dead.append(f"{page}: {link}")
    assert dead == []


def test_every_page_is_named_in_the_readme() -> None:
    """A page without a link is not found."""
    assert set(PAGES) - {"README.md"} <= set(links("README.md"))


def test_the_readme_fits_two_screens() -> None:
    """160 lines; what does not fit belongs to docs/."""
    assert len(PAGES["README.md"].splitlines()) <= 160


def test_ci_runs_the_commands_of_the_readme() -> None:
    """What a newcomer types is what is tested on every change."""
    script = (ROOT / ".ci" / "run").read_text()
    commands = re.findall(r"```sh\n(python3 -m venv .*)\n```", PAGES["README.md"])
    assert len(commands) == 2
    for command in commands:
        assert f"\n{command}\n" in script


def test_the_hooks_before_a_commit_are_steps_of_ci() -> None:
    """The inner loop is a part of one."""
    hooks = re.findall("entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    script = (ROOT / ".ci" / "run").read_text()
    assert hooks.pop() == '.venv/bin/python -m pytest -q -m "not slow"'
    assert [hook for hook in hooks if f"\n{hook}\n" not in script] == []


def test_the_flag_file_is_the_one_that_the_tests_roll_out() -> None:
    """Word for word."""
    printed = example("docs/flag.md", "flagd, from a file", language="json")
    assert printed == (ROOT / "tests" / "data" / "flags.json").read_text()
