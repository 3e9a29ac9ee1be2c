"""Fail every test whose output holds a secret or a token.

Logs (ours at every level), standard output and error, whatever `capsys` or a subprocess handed
to the test, and the exceptions that a test expects: their text, what they were raised from, and
the locals of our own frames. A test whose job it is to print one says so:
``@pytest.mark.prints_token("why")``.
"""

from __future__ import annotations

import logging
import re
import subprocess
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

import manor_mcp_interceptors
from tests.support import OTHER_SECRET, SECRET

PACKAGE: Final = str(Path(manor_mcp_interceptors.__file__).parent)
MARKER: Final = "prints_token(why): the test's job is to print a token or a secret"
JWT: Final = re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}")
LOGGER: Final = logging.getLogger("manor_mcp_interceptors")


class LeakGuard(logging.Handler):
    """Looks at what a test puts out, and notes where it found something."""

    def __init__(self, secrets: set[str]) -> None:
        super().__init__(logging.DEBUG)
        self.secrets = secrets
        self.leaks: list[str] = []

    def see(self, text: object, where: str) -> None:
        """Look at one text, or at bytes."""
        shown = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        if JWT.search(shown):
            self.leaks.append(f"a token in {where}")
        if any(secret in shown for secret in self.secrets):
            self.leaks.append(f"a secret in {where}")

    def emit(self, record: logging.LogRecord) -> None:
        self.see(logging.Formatter().format(record), f"a log record of {record.name}")
        self.see(repr(record.__dict__), f"the arguments of a log record of {record.name}")

    def see_exception(self, error: BaseException) -> None:
        """Look at an exception, all it came from, and the locals of our frames."""
        whole = traceback.TracebackException.from_exception(error)
        self.see("".join(whole.format()), f"the traceback of {type(error).__name__}")
        shown: BaseException | None = error
        while shown is not None:
            self.see(repr(shown) + repr(vars(shown)), f"a {type(shown).__name__}")
            for frame, _ in traceback.walk_tb(shown.__traceback__):
                code = frame.f_code
                # The second is a constructor's: `_dataclass` compiles it, as dataclasses does.
                if code.co_filename.startswith(PACKAGE) or code.co_filename == "<string>":
                    file = code.co_filename.removeprefix(PACKAGE)
                    self.see(repr(frame.f_locals), f"the locals of {code.co_name}, {file}")
            hidden = shown.__suppress_context__  # by "from None": no traceback shows it
            shown = shown.__cause__ or (None if hidden else shown.__context__)

    def take_leaks(self) -> list[str]:
        """Return what was found since the last time."""
        leaks, self.leaks = sorted(set(self.leaks)), []
        return leaks


GUARD: Final = pytest.StashKey[LeakGuard]()


def pytest_configure(config: pytest.Config) -> None:
    """Watch the ways by which a test sees output."""
    config.addinivalue_line("markers", MARKER)
    config.stash[GUARD] = guard = LeakGuard({SECRET, OTHER_SECRET})
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    read, made = pytest.CaptureFixture.readouterr, subprocess.CompletedProcess.__init__
    raises = type(pytest.raises(ValueError))  # noqa: PT011 - only its class is asked for
    leave = raises.__exit__

    def readouterr(self: pytest.CaptureFixture[str]) -> Any:
        result = read(self)
        guard.see(f"{result.out}{result.err}", "what capsys or capfd captured")
        return result

    def completed(
        self: Any, args: Any, code: int, stdout: object = None, stderr: object = None
    ) -> None:
        guard.see(stdout, "a subprocess's standard output")
        guard.see(stderr, "a subprocess's standard error")
        made(self, args, code, stdout, stderr)

    def expected(self: Any, kind: Any, error: BaseException | None, trace: Any) -> Any:
        if error is not None:
            guard.see_exception(error)
        return leave(self, kind, error, trace)

    patch.setattr(pytest.CaptureFixture, "readouterr", readouterr)
    patch.setattr(subprocess.CompletedProcess, "__init__", completed)
    patch.setattr(raises, "__exit__", expected)
    level = LOGGER.level
    LOGGER.addHandler(guard)
    LOGGER.setLevel(logging.DEBUG)

    def stop() -> None:
        LOGGER.removeHandler(guard)
        LOGGER.setLevel(level)

    config.add_cleanup(stop)


@pytest.fixture(autouse=True, scope="session")
def leak_guard(mcp_auth_secret: str, request: pytest.FixtureRequest) -> None:
    """Guard the secret of this session as well."""
    request.config.stash[GUARD].secrets.add(mcp_auth_secret)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail the teardown of a test that leaked; what leaked is not repeated."""
    report = yield
    if report.when != "teardown":
        return report
    guard = item.config.stash[GUARD]
    guard.see(item.nodeid, "the name of the test")
    for name, content in report.sections:
        guard.see(content, name)
    leaks = guard.take_leaks()
    if leaks and report.passed and item.get_closest_marker("prints_token") is None:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} leaked:\n  " + "\n  ".join(leaks)
    return report
