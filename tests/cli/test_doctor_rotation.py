"""The doctor tells the step of a rotation from the files of one host."""

from __future__ import annotations

from pathlib import Path

import pytest

from manor_mcp_interceptors._keys.fingerprint import fingerprint
from tests.cli.running import doctor
from tests.support import OTHER_SECRET, SECRET

OLD, NEW = fingerprint(SECRET), fingerprint(OTHER_SECRET)
BOTH = f"{SECRET}\n{OTHER_SECRET}\n"


@pytest.fixture
def files(env_on: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the two files, before the rotation."""
    monkeypatch.delenv("MCP_AUTH_SECRET")
    monkeypatch.setenv("MCP_AUTH_SECRET_FILE", str(tmp_path / "current"))
    monkeypatch.setenv("MCP_AUTH_PREVIOUS_SECRET_FILE", str(tmp_path / "previous"))
    (tmp_path / "current").write_text(SECRET)
    return tmp_path


@pytest.mark.parametrize("arguments", [[], ["--server"]], ids=["caller", "server"])
def test_each_step_is_named_with_what_comes_next(files: Path, arguments: list[str]) -> None:
    """On a caller and on a server; the fingerprints say which secret is meant."""

    def step() -> tuple[str, str, str]:
        found = doctor(*arguments)
        assert found.exit_code == 0
        check = found.checks["rotation"]
        assert not any(secret in found.text for secret in (SECRET, OTHER_SECRET))
        return check["details"]["step"], check["finding"], check["fix"]

    number, finding, following = step()
    assert (number, following) == ("0", "")
    assert finding.endswith(f"complete, or not begun; {OLD} is the only secret here")
    (files / "previous").write_text(BOTH)
    number, finding, following = step()
    assert number == "1"
    assert f"current secret is {OLD}; {NEW} is accepted too" in finding
    assert "write the new secret to the current file" in following
    (files / "current").write_text(OTHER_SECRET)
    number, finding, following = step()
    assert number == "2"
    assert f"current secret is {NEW}; {OLD} is still accepted" in finding
    assert "one token lifetime (3600 s) no token came with the previous key" in following
    (files / "previous").write_text("")
    number, finding, _ = step()
    assert (number, f"{NEW} is the only secret" in finding) == ("0", True)


def test_one_previous_secret_leaves_the_step_open(files: Path) -> None:
    """It may be the old one or the new one; the fix says how the file tells."""
    (files / "previous").write_text(OTHER_SECRET)
    check = doctor("--server").checks["rotation"]
    assert check["details"] == {"step": "1 or 2", "current": OLD, "also accepted": NEW}
    assert "the new one last" in check["fix"]


def test_a_previous_file_with_the_current_secret_alone_accepts_one_secret(files: Path) -> None:
    """Nothing else is accepted, so no rotation is under way."""
    (files / "previous").write_text(SECRET)
    assert doctor().checks["rotation"]["details"]["step"] == "0"
