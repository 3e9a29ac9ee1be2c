"""A secret in a file: what is read from it, and what happens when it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manor_mcp_interceptors import SettingsError
from manor_mcp_interceptors._keys.shared_secret import SharedSecret, parse_secret
from manor_mcp_interceptors._keys.watched_file import MAX_FILE_BYTES, WatchedFile, shown_path
from manor_mcp_interceptors.outcomes import Outcome
from tests.support import OTHER_SECRET, SECRET


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a good secret's file."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


def watched(path: Path) -> WatchedFile[SharedSecret]:
    return WatchedFile(str(path), "VARIABLE", parse_secret)


def read(path: Path) -> SharedSecret:
    return watched(path).read()[0]


def refused(path: Path) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        read(path)
    return caught.value


@pytest.mark.parametrize(
    ("end", "kept"), [("", ""), ("\n", ""), ("\r\n", ""), ("\n\n", ""), (" \n", " ")]
)
def test_only_the_line_ends_of_a_file_are_removed(file: Path, end: str, kept: str) -> None:
    """Editors and `kubectl` end a file with a newline; a space may be part of the secret."""
    file.write_text(SECRET + end, newline="")
    assert read(file).secret == SECRET + kept


@pytest.mark.parametrize(
    ("content", "problem", "outcome"),
    [
        (b"", "is empty", Outcome.NOT_CONFIGURED),
        (b" \n", "is empty", Outcome.NOT_CONFIGURED),
        (b"\xff\xfe" + SECRET.encode(), "is not UTF-8", Outcome.INVALID_CONFIG),
        (b"x" * (MAX_FILE_BYTES + 1), "is larger than", Outcome.INVALID_CONFIG),
    ],
    ids=["empty", "blank", "garbled", "large"],
)
def test_an_unusable_file_is_refused_with_the_reason(
    file: Path, content: bytes, problem: str, outcome: Outcome
) -> None:
    """The message names the variable and the path."""
    file.write_bytes(content)
    error = refused(file)
    assert error.outcome is outcome
    assert str(error).startswith(f"VARIABLE: {file} {problem}")


def test_a_path_without_a_regular_file_is_refused(tmp_path: Path) -> None:
    """Missing, a directory, or a FIFO, which would block whoever opens it."""
    assert f"{tmp_path}/none cannot be read: No such file" in str(refused(tmp_path / "none"))
    assert "is not a regular file" in str(refused(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    assert "is not a regular file" in str(refused(tmp_path / "fifo"))


def test_an_unreadable_file_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's words; staged, since root may read everything."""

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert "cannot be read: Permission denied" in str(refused(file))


@pytest.mark.parametrize("damage", [b"", b"\xff", None], ids=["emptied", "garbled", "gone"])
def test_a_damaged_file_leaves_the_last_good_secret_in_use(
    file: Path, damage: bytes | None
) -> None:
    """With a warning that shows the path, which was a file's; the next good content is used."""
    secret_file = watched(file)
    assert secret_file.read()[1] is None
    if damage is None:
        file.rename(file.with_name("elsewhere"))
    else:
        file.write_bytes(damage)
    key, warning = secret_file.read()
    assert key.secret == SECRET
    assert warning is not None
    assert warning.startswith(f"VARIABLE: {file} ")
    assert warning.endswith("; the last good one stays in use")
    file.write_text(OTHER_SECRET)
    assert secret_file.read() == (SharedSecret(OTHER_SECRET, None, key.source), None)


def test_a_swapped_symlink_is_a_change(tmp_path: Path) -> None:
    """Kubernetes swaps the link behind which a mounted secret is."""
    for name, secret in (("one", SECRET), ("two", OTHER_SECRET)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(secret)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "secret").symlink_to("..data/secret")
    secret_file = watched(tmp_path / "secret")
    assert secret_file.read()[0].secret == SECRET
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert secret_file.read()[0].secret == OTHER_SECRET


@pytest.mark.parametrize(
    ("path", "is_shown"),
    [
        ("folder", True),  # it exists
        ("folder/secret", True),  # its folder does
        ("./secret", True),
        ("secret.txt", True),  # no secret ends like a file's name
        ("secrets/mcp.key", True),
        ("/nowhere/mcp.key", True),
        ("/nowhere/secret", False),  # nothing of it exists: any base64 text may look like that
        ("folder/" + "x" * 40, False),  # as long as a random secret
        ("secret", False),
        ("/secret", False),
        ("//secret", False),
        ("", False),
    ],
)
def test_a_path_is_shown_if_it_cannot_be_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, is_shown: bool
) -> None:
    """A file that exists always goes by its path; a missing one if its path looks like one."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert shown_path(path) == (path if is_shown else "<not shown>")
