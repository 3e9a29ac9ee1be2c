"""The secret: where it may come from, and what is refused as one."""

from __future__ import annotations

import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, SettingsError
from manor_mcp_interceptors._keys.keys import KeySource, SecretFile, SigningKey
from manor_mcp_interceptors._keys.secret_file import MAX_FILE_BYTES
from manor_mcp_interceptors.outcomes import Outcome
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate, signed_with

LATER = 4_000_000_000.0
"""Unix time at which no file was written just now."""

PEM = "-----BEGIN PRIVATE KEY-----\nMIIBVQIBADANBgkqhkiG9w0BAQ\n-----END PRIVATE KEY-----\n"
JWK = '{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}'
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000"


def key_of(settings: Settings) -> SigningKey:
    return KeySource(lambda: LATER).signing_key(settings)


def refused(settings: Settings) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        key_of(settings)
    return caught.value


def test_a_secret_in_the_environment_is_taken_as_it_is() -> None:
    """Servers compare it byte for byte: nothing is stripped, and the white space is remarked."""
    key = key_of(Settings(secret=SECRET + "\n"))
    assert key.secret == SECRET + "\n"
    assert key.source == "MCP_AUTH_SECRET"
    assert any("white space" in remark for remark in key.remarks)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_file_loses_its_line_ends_and_nothing_else(tmp_path: Path, end: str) -> None:
    """Editors and `kubectl` end a file with a newline; the secret has none."""
    file = tmp_path / "secret"
    file.write_text(SECRET + end, newline="")
    key = key_of(Settings(secret_file=file))
    assert key.secret == SECRET
    assert key.source == f"MCP_AUTH_SECRET_FILE ({file})"
    assert not key.remarks


def test_white_space_left_in_a_file_is_kept_and_remarked(tmp_path: Path) -> None:
    """A trailing space may be part of the secret; an operator should know of it."""
    file = tmp_path / "secret"
    file.write_text(SECRET + " \n")
    key = key_of(Settings(secret_file=str(file)))
    assert key.secret == SECRET + " "
    assert any("white space" in remark for remark in key.remarks)


def test_no_secret_is_not_configured() -> None:
    """The message says which variables to set."""
    error = refused(Settings())
    assert error.outcome is Outcome.NOT_CONFIGURED
    assert "MCP_AUTH_SECRET" in str(error)
    assert "MCP_AUTH_SECRET_FILE" in str(error)


def test_two_sources_at_once_are_refused() -> None:
    """Which one was meant cannot be known."""
    error = refused(Settings(secret=SECRET, secret_file="/run/secrets/mcp"))
    assert error.outcome is Outcome.INVALID_CONFIG
    assert "MCP_AUTH_SECRET and MCP_AUTH_SECRET_FILE are both set" in str(error)


@pytest.mark.parametrize("secret", [PEM, JWK, SSH], ids=["PEM", "JWK", "ssh"])
def test_an_asymmetric_key_is_no_shared_secret(tmp_path: Path, secret: str) -> None:
    """From either source, and without a word of it in the message."""
    file = tmp_path / "secret"
    file.write_text(secret)
    for settings in (Settings(secret=secret), Settings(secret_file=file)):
        error = refused(settings)
        assert error.outcome is Outcome.INVALID_CONFIG
        assert "PEM, ssh or JWK" in str(error)
        assert secret[:30] not in str(error)


def test_a_short_secret_works_and_is_remarked() -> None:
    """RFC 7518 asks for 32 bytes; services that have fewer go on working."""
    key = key_of(Settings(secret="x" * 20))
    assert key.secret == "x" * 20
    assert any("20 bytes" in remark for remark in key.remarks)
    assert not key_of(Settings(secret="x" * 32)).remarks


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
def test_a_file_of_no_use_says_why(
    tmp_path: Path, content: bytes, problem: str, outcome: Outcome
) -> None:
    """The message names the variable and the path."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    error = refused(Settings(secret_file=file))
    assert error.outcome is outcome
    assert str(error).startswith(f"MCP_AUTH_SECRET_FILE: {file} {problem}")


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    """Missing, a directory, or a FIFO, which would block whoever opens it."""
    assert "No such file" in str(refused(Settings(secret_file=tmp_path / "none")))
    assert "is not a regular file" in str(refused(Settings(secret_file=tmp_path)))
    os.mkfifo(tmp_path / "fifo")
    assert "is not a regular file" in str(refused(Settings(secret_file=tmp_path / "fifo")))


def test_an_unreadable_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own words are in the message; staged, since root may read everything."""

    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "secret"
    file.write_text(SECRET)
    monkeypatch.setattr("builtins.open", refuse)
    assert "cannot be read: Permission denied" in str(refused(Settings(secret_file=file)))


@pytest.mark.parametrize("damage", [b"", b"\xff", None], ids=["emptied", "garbled", "gone"])
def test_a_damaged_file_leaves_the_last_good_secret(tmp_path: Path, damage: bytes | None) -> None:
    """And says so; the next good content is taken."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    source, settings = KeySource(lambda: LATER), Settings(secret_file=file)
    assert not source.signing_key(settings).remarks
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    key = source.signing_key(settings)
    assert key.secret == SECRET
    assert any("the last good secret stays in use" in remark for remark in key.remarks)
    file.write_text(OTHER_SECRET)
    assert source.signing_key(settings) == SigningKey(OTHER_SECRET, None, key.source)


def test_a_file_that_shrank_a_moment_ago_may_be_half_written(tmp_path: Path) -> None:
    """It is taken once nobody has written to it for a while."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    now = [LATER]
    source, settings = KeySource(lambda: now[0]), Settings(secret_file=file)
    source.signing_key(settings)
    file.write_text(OTHER_SECRET[:20])
    now[0] = file.stat().st_mtime + 0.01
    assert source.signing_key(settings).secret == SECRET
    now[0] += 0.1
    assert source.signing_key(settings).secret == OTHER_SECRET[:20]


def test_a_swapped_symlink_is_a_change(tmp_path: Path) -> None:
    """Kubernetes swaps the link behind which a mounted secret stands."""
    for name, secret in (("one", SECRET), ("two", OTHER_SECRET)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(secret)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "secret").symlink_to("..data/secret")
    source, settings = KeySource(lambda: LATER), Settings(secret_file=tmp_path / "secret")
    assert source.signing_key(settings).secret == SECRET
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert source.signing_key(settings).secret == OTHER_SECRET


def test_no_traceback_with_locals_shows_a_secret(tmp_path: Path) -> None:
    """Error reporters print the locals of each frame."""
    file = tmp_path / "secret"
    for content in (PEM.encode(), JWK.encode(), b"\xff" + SECRET.encode()):
        file.write_bytes(content)
        with pytest.raises(SettingsError) as caught:
            key_of(Settings(secret_file=file))
        report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        ours = [frame for frame in report.stack if frame.filename.endswith("/keys.py")]
        shown = str(caught.value) + "".join(str(frame.locals) for frame in ours)
        assert "KeySource" in shown
        assert not any(part in shown for part in (SECRET, "MIIB", "c2Vj"))


@pytest.mark.parametrize("length", [20, 43, 80])
@pytest.mark.parametrize("first", [b"", b"half", b"x" * 60])
def test_a_file_that_is_being_written_waits_until_it_has_settled(
    tmp_path: Path, first: bytes, length: int
) -> None:
    """Whatever a writer leaves for a moment, of whatever length, signs nothing; no word of it."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    now = [LATER]
    source, settings = KeySource(lambda: now[0]), Settings(secret_file=file)
    source.signing_key(settings)
    file.write_bytes(first)
    now[0] = file.stat().st_mtime + 0.01
    held = source.signing_key(settings)
    assert held.secret == SECRET
    assert held.remarks == ()
    assert 0 < held.settles_in < 0.05
    secret = (OTHER_SECRET * 2)[:length]
    file.write_text(secret)
    now[0] = file.stat().st_mtime + 0.06
    assert source.signing_key(settings).secret == secret


def test_a_file_renamed_into_place_is_taken_at_once(tmp_path: Path) -> None:
    """It was written elsewhere, and whole."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    source, settings = KeySource(time.time), Settings(secret_file=file)
    assert source.signing_key(settings).secret == SECRET
    draft = tmp_path / "draft"
    draft.write_text(OTHER_SECRET)
    draft.replace(file)
    assert source.signing_key(settings).secret == OTHER_SECRET


def test_a_change_of_the_file_mints_within_the_recheck_interval(
    tmp_path: Path, clock: FakeClock
) -> None:
    """And what holds back an unsettled file shortens the lease instead of missing a turn."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    settings = Settings(secret_file=file)
    provider = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)
    assert signed_with(str(provider.token()), SECRET)
    clock.advance(0.99)
    file.write_text(OTHER_SECRET)
    os.utime(file, (clock.wall, clock.wall))
    clock.advance(0.011)
    assert signed_with(str(provider.token()), SECRET)
    clock.advance(0.05)
    assert signed_with(str(provider.token()), OTHER_SECRET)


def test_two_threads_find_the_previous_file_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: each goes on with the current secret, whoever was first to forget the other."""
    settings = Settings(secret=SECRET, previous_secret_file=tmp_path / "none")
    source, both_looked = KeySource(lambda: LATER), threading.Barrier(2, timeout=10)
    is_removed = SecretFile.is_removed

    def together(file: SecretFile) -> bool:
        both_looked.wait()
        return is_removed(file)

    monkeypatch.setattr(SecretFile, "is_removed", together)
    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(source.verification_keys, settings) for _ in range(2)]
        assert [look.result().previous for look in looks] == [None, None]


def test_a_secret_in_the_place_of_a_path_is_not_shown(tmp_path: Path) -> None:
    """Pasted into the wrong variable, it is in no message; a path is, and the hint says which."""
    for pasted in ("hunter2", "hunter2" * 50):  # the second is too long for a file's name
        error = refused(Settings(secret_file=pasted))
        assert str(error).startswith("MCP_AUTH_SECRET_FILE: <not shown> cannot be read: ")
        assert str(error).endswith("takes the path of a file, not the secret itself")
        assert error.outcome is Outcome.INVALID_CONFIG
    assert "/none" in str(refused(Settings(secret_file=tmp_path / "none")))


def test_a_file_in_the_working_directory_goes_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exists, so its name is none that was meant as a secret."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert "folder is not a regular file" in str(refused(Settings(secret_file="folder")))
