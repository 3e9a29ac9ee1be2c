"""The guard itself: each way of leaking is found, and nothing else."""

from __future__ import annotations

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings
from manor_mcp_interceptors.testing import StaticGate
from tests.support import SECRET

CONFTEST = """
pytest_plugins = ["manor_mcp_interceptors.pytest_plugin", "tests.support.leak_guard"]
"""
LEAKS = {
    "print": "print(LEAK)",
    "standard error": "import sys; sys.stderr.write(LEAK)",
    "our log, at any level": (
        'import logging; logging.getLogger("manor_mcp_interceptors").debug(LEAK)'
    ),
    "an argument of our log": (
        'import logging; logging.getLogger("manor_mcp_interceptors").info("%.3s", LEAK)'
    ),
    "a traceback in a log": """
    import logging
    try:
        raise ValueError(LEAK)
    except ValueError:
        logging.getLogger("manor_mcp_interceptors").debug("failed", exc_info=True)
""",
    "another's log": 'import logging; logging.getLogger("other").error(LEAK)',
    "capsys": "print(LEAK); capsys.readouterr()",
    "a subprocess": """
    import subprocess, sys
    subprocess.run([sys.executable, "-c", "import sys; print(sys.argv[1])", LEAK],
                   capture_output=True)
""",
    "an expected exception": """
    with pytest.raises(ValueError):
        raise ValueError(LEAK)
""",
    "what an exception came from": """
    with pytest.raises(KeyError):
        try:
            raise ValueError(LEAK)
        except ValueError:
            raise KeyError
""",
    "an attribute of an exception": """
    error = ValueError()
    error.token = LEAK
    with pytest.raises(ValueError):
        raise error
""",
    "a local of our code": """
    from manor_mcp_interceptors._bearer import parse_bearer
    with pytest.raises(TypeError):
        parse_bearer([LEAK])
""",
    "a local of a compiled constructor": """
    from dataclasses import dataclass
    @dataclass
    class Text:
        value: str
        def __post_init__(self):
            raise ValueError
        def __repr__(self):
            return "Text"
    with pytest.raises(ValueError):
        Text(LEAK)
""",
}


@pytest.fixture
def token() -> str:
    token = MCPTokenProvider(Settings(secret=SECRET), gate=StaticGate()).token()
    assert token is not None
    return token


def run(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    leak: str,
    decorator: str = "",
) -> pytest.RunResult:
    """Run one test in a suite that is guarded as this one is."""
    monkeypatch.setenv("LEAK", leak)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others' plugins take time
    pytester.makeconftest(CONFTEST)
    indented = body if body.startswith("\n") else f"\n    {body}\n"
    head = "import os\nimport pytest\nLEAK = os.environ['LEAK']\n"
    pytester.makepyfile(f"{head}\n{decorator}\ndef test_it(capsys):{indented}")
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-q")


@pytest.mark.prints_token("to show that it does not go unseen")
@pytest.mark.parametrize("body", LEAKS.values(), ids=LEAKS.keys())
def test_a_leak_fails_the_test_that_leaked(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, token: str, body: str
) -> None:
    """Whichever way, a token or a secret; the message says where and does not repeat it."""
    for leak in (token, SECRET):
        result = run(pytester, monkeypatch, body, leak)
        result.assert_outcomes(passed=1, errors=1)
        message = result.stdout.str().partition(" leaked:")[2].partition("-- Captured")[0]
        assert ("a token in " if leak == token else "a secret in ") in message
        assert leak not in message


@pytest.mark.prints_token("so does the suite that it runs")
def test_a_test_may_declare_that_it_prints_a_token(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """One whose job it is."""
    decorator = "@pytest.mark.prints_token('it is about that')"
    run(pytester, monkeypatch, "print(LEAK)", token, decorator).assert_outcomes(passed=1)


def test_a_test_that_prints_nothing_of_the_kind_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """Handling a token is no leak; nor is the look of one, three words with dots."""
    body = """
    import logging
    assert LEAK
    print("eyJhbGciOi... a.b.c", LEAK[:20])
    logging.getLogger("manor_mcp_interceptors").warning("%s characters", len(LEAK))
    with pytest.raises(ValueError):
        raise ValueError("a token was refused")
"""
    run(pytester, monkeypatch, body, token).assert_outcomes(passed=1)
