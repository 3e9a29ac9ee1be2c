"""The secret: its two sources, and what is refused as one."""

from __future__ import annotations

import base64
import json
import random
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, SettingsError, diagnose
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.shared_secret import SharedSecret
from manor_mcp_interceptors._keys.verification_keys import VerificationKeys
from manor_mcp_interceptors._keys.watched_file import WatchedFile
from manor_mcp_interceptors.outcomes import Outcome
from tests.cli.running import doctor
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate, signed_with

PEM = "-----BEGIN PRIVATE KEY-----\nMIIBVQIBADANBgkqhkiG9w0BAQ\n-----END PRIVATE KEY-----\n"
JWK = '{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}'
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000"


def key_of(settings: Settings) -> SharedSecret:
    key = KeySource().signing_key(settings)
    assert isinstance(key, SharedSecret)
    return key


def secrets_of(keys: VerificationKeys) -> tuple[str | None, list[str]]:
    """Return the current secret, and the previous ones."""
    current = None if keys.current is None else keys.current.secret
    return current, [key.secret for key in keys.previous]


def refused(settings: Settings) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        key_of(settings)
    return caught.value


def locals_of_the_package(error: BaseException) -> str:
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(str(f.locals) for f in report.stack if "manor_mcp_interceptors" in f.filename)


def test_no_secret_is_not_configured() -> None:
    """The message names the variables to set."""
    error = refused(Settings())
    assert error.outcome is Outcome.NOT_CONFIGURED
    assert "MCP_AUTH_SECRET" in str(error)
    assert "MCP_AUTH_SECRET_FILE" in str(error)


@pytest.mark.parametrize(
    ("in_code", "names"),
    [
        (False, "MCP_AUTH_SECRET and MCP_AUTH_SECRET_FILE"),
        (True, "Settings.secret and Settings.secret_file"),
    ],
)
def test_two_sources_at_once_are_refused(in_code: bool, names: str) -> None:
    """Which one was meant cannot be known; both are named as they were set."""
    settings = Settings(secret=SECRET, secret_file="/run/secrets/mcp")
    with pytest.raises(SettingsError, match=f"{names} are both set") as caught:
        KeySource(in_code=in_code).signing_key(settings)
    assert caught.value.outcome is Outcome.INVALID_CONFIG


@pytest.mark.parametrize(
    "secret",
    [PEM, PEM.split("\n", maxsplit=1)[0], JWK, SSH],
    ids=["PEM", "a line of a PEM", "JWK", "ssh"],
)
def test_an_asymmetric_key_is_no_shared_secret(tmp_path: Path, secret: str) -> None:
    """From either source, and no part of it is in the message or in a traceback with locals."""
    file = tmp_path / "secret"
    file.write_text(secret)
    for settings in (Settings(secret=secret), Settings(secret_file=file)):
        error = refused(settings)
        assert error.outcome is Outcome.INVALID_CONFIG
        assert "PEM, ssh or JWK" in str(error)
        assert "MCP_AUTH_PRIVATE_KEY_FILE takes the file of a private key" in str(error)
        assert secret[:27] not in str(error)
        assert secret[-30:-5] not in locals_of_the_package(error)


def test_a_key_names_its_source(tmp_path: Path) -> None:
    """The variable, or the field of settings made in code, and the file's path."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    assert key_of(Settings(secret=SECRET)).source == "MCP_AUTH_SECRET"
    assert key_of(Settings(secret_file=file)).source == f"MCP_AUTH_SECRET_FILE ({file})"
    in_code = KeySource(in_code=True)
    assert in_code.signing_key(Settings(secret=SECRET)).source == "Settings.secret"
    in_file = in_code.signing_key(Settings(secret_file=file))
    assert in_file.source == f"Settings.secret_file ({file})"


def test_a_changed_secret_file_signs_the_next_token_after_the_recheck_interval(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A file written in place, and at once: it is used as it is read."""
    file = tmp_path / "secret"
    file.write_text(SECRET)
    settings = Settings(secret_file=file)
    provider = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)
    assert signed_with(str(provider.token()), SECRET)
    clock.advance(0.99)
    file.write_text(OTHER_SECRET)
    assert signed_with(str(provider.token()), SECRET)
    clock.advance(0.02)
    assert signed_with(str(provider.token()), OTHER_SECRET)


@pytest.mark.parametrize("content", [None, b"", b"\xef\xbb\xbf \r\n"], ids=["gone", "empty", "BOM"])
def test_a_previous_secret_file_that_is_removed_retires_its_secret(
    tmp_path: Path, content: bytes | None
) -> None:
    """That is how a rotation ends: without a problem, also if the file becomes unreadable later."""
    file = tmp_path / "previous"
    file.write_text(OTHER_SECRET)
    source, settings = KeySource(), Settings(secret=SECRET, previous_secret_file=file)
    (before,) = source.verification_keys(settings).previous
    assert before.secret == OTHER_SECRET
    file.unlink() if content is None else file.write_bytes(content)
    keys = source.verification_keys(settings)
    assert (keys.previous, keys.problems) == ((), ())
    file.write_bytes(b"\xff")
    assert source.verification_keys(settings).previous == ()


def test_a_garbled_previous_secret_file_keeps_the_last_good_one(tmp_path: Path) -> None:
    """With a warning; without an earlier one, the current secret stays in use alone."""
    file = tmp_path / "previous"
    file.write_text(OTHER_SECRET)
    source, settings = KeySource(), Settings(secret=SECRET, previous_secret_file=file)
    before = source.verification_keys(settings)
    file.write_bytes(b"\xff")
    keys = source.verification_keys(settings)
    assert keys == before
    assert any("the last good one stays in use" in text for text in keys.warnings())
    alone = KeySource().verification_keys(settings)
    assert secrets_of(alone) == (SECRET, [])
    assert any("not in use: MCP_AUTH_PREVIOUS_SECRET_FILE" in text for text in alone.warnings())


def test_two_threads_that_find_the_previous_file_gone_keep_the_current_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both at once, whichever is first to forget the other secret."""
    settings = Settings(secret=SECRET, previous_secret_file=tmp_path / "none")
    source, both_checked = KeySource(), threading.Barrier(2, timeout=10)
    is_removed = WatchedFile.is_removed

    def together(file: WatchedFile[SharedSecret]) -> bool:
        both_checked.wait()
        return is_removed(file)

    monkeypatch.setattr(WatchedFile, "is_removed", together)
    with ThreadPoolExecutor(2) as pool:
        reads = [pool.submit(source.verification_keys, settings) for _ in range(2)]
        assert [read.result().previous for read in reads] == [(), ()]


def misplaced_secrets() -> list[str]:
    """Return base64 of random bytes, with and without a slash, one with a slash at its start."""
    random_bytes = random.Random(12).randbytes
    made = [base64.b64encode(random_bytes(32)).decode() for _ in range(50)]
    return ["hunter2", "hunter2" * 50, "/" + made[0][1:], "folder/" + made[1][7:], *made]


def test_a_secret_in_the_variable_of_a_path_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the error, a traceback, the log, `diagnose`, a `repr` or ``doctor --json``.

    Not even if its beginning happens to be a folder's name.
    """
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    monkeypatch.setenv("MCP_AUTH_FEATURE_FLAG", "f")
    monkeypatch.setenv("F", "on")
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "0")
    for secret in misplaced_secrets():
        monkeypatch.setenv("MCP_AUTH_SECRET_FILE", secret)
        status, settings = diagnose(), Settings.from_env()
        error = refused(settings)
        shown = [str(error), locals_of_the_package(error), caplog.text, repr(status)]
        assert not [text for text in [*shown, repr(settings)] if secret in text]
        assert str(error).startswith("MCP_AUTH_SECRET_FILE: <not shown> cannot be read: ")
        assert str(error).endswith("takes the path of a file, not what is in it, and no URL")
        assert error.outcome is status.outcome is Outcome.INVALID_CONFIG
        if secret.count("/") == 1:
            assert secret not in doctor().text
    assert "<not shown> cannot be read" in caplog.text


THIRD_SECRET = "third-secret-" + "7" * 32


def accepted_from(tmp_path: Path, content: str) -> VerificationKeys:
    """Return what a verifier accepts whose file of previous secrets has this content."""
    file = tmp_path / "previous"
    file.write_text(content, newline="")
    return KeySource().verification_keys(Settings(secret=SECRET, previous_secret_file=file))


@pytest.mark.parametrize(
    ("content", "secrets"),
    [
        (f"{OTHER_SECRET}\n", [OTHER_SECRET]),
        (f"{OTHER_SECRET}\n{THIRD_SECRET}", [OTHER_SECRET, THIRD_SECRET]),
        (f"{OTHER_SECRET}\r\n\r\n \t\n{THIRD_SECRET}\r\n\n", [OTHER_SECRET, THIRD_SECRET]),
        (f"# the old one\n{OTHER_SECRET}\n#\n{THIRD_SECRET}\n", [OTHER_SECRET, THIRD_SECRET]),
        (f"{OTHER_SECRET} \n", [f"{OTHER_SECRET} "]),
        (f"#{OTHER_SECRET}\n", [f"#{OTHER_SECRET}"]),
        ("# nothing yet\n", []),
    ],
    ids=["one", "two", "Windows and blank", "comments", "a space", "a hash", "a comment alone"],
)
def test_each_line_of_the_previous_file_is_a_secret(
    tmp_path: Path, content: str, secrets: list[str]
) -> None:
    """Blank lines and comments are none; what is in a line stays as it is."""
    keys = accepted_from(tmp_path, content)
    assert (secrets_of(keys)[1], keys.problems) == (secrets, ())


def test_the_current_secret_among_the_previous_ones_is_one_key(tmp_path: Path) -> None:
    """The runbook puts both secrets of a rotation into the previous file."""
    keys = accepted_from(tmp_path, f"{SECRET}\n{OTHER_SECRET}\n")
    assert [key.secret for key in keys.secrets] == [SECRET, OTHER_SECRET]
    assert [keys.name_of(key) for key in keys.secrets] == ["current", "previous"]


def test_a_warning_names_the_line_and_shows_nothing_of_it(tmp_path: Path) -> None:
    """Each line is checked as any secret is; two lines in the file are no accident."""
    keys = accepted_from(tmp_path, f"{OTHER_SECRET}\nhunter2\n'{THIRD_SECRET}'\n")
    short, quoted = keys.warnings()
    source = f"MCP_AUTH_PREVIOUS_SECRET_FILE ({tmp_path}/previous)"
    assert short.startswith(f"{source}, line 2 is 7 bytes long")
    assert quoted.startswith(f"{source}, line 3 has quotes around it")
    assert "hunter2" not in short
    assert THIRD_SECRET not in quoted


@pytest.mark.parametrize(
    "content",
    [
        PEM,
        PEM.rpartition("-----END")[0] + "\n",
        json.dumps(json.loads(JWK), indent=1),
        json.dumps({"keys": [json.loads(JWK)]}, indent=1),
        f"{OTHER_SECRET}\n{PEM}",
        f"{OTHER_SECRET}\n{SSH}\n",
    ],
    ids=["PEM", "half a PEM", "JWK", "JWK set", "PEM after a secret", "ssh after a secret"],
)
def test_no_line_of_a_key_file_is_a_secret(tmp_path: Path, content: str) -> None:
    """Anybody could sign with ``{`` or the first line of a PEM; the current secret stays in use."""
    keys = accepted_from(tmp_path, content)
    assert secrets_of(keys) == (SECRET, [])
    assert "PEM, ssh or JWK" in str(keys.problems[0])


def test_a_file_of_many_lines_is_not_a_file_of_secrets(tmp_path: Path) -> None:
    """Each line of a text that was mounted by mistake would be a secret."""
    keys = accepted_from(tmp_path, "a line of a text\n" * 9)
    assert keys.previous == ()
    assert "holds 9 lines; it takes 8 secrets at most" in str(keys.problems[0])


def test_several_lines_in_the_file_of_the_current_secret_are_one_secret(tmp_path: Path) -> None:
    """With the warning of an accident: there is one secret to sign with."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{OTHER_SECRET}\n")
    key = key_of(Settings(secret_file=file))
    assert key.secret == f"{SECRET}\n{OTHER_SECRET}"
    assert "has several lines: this looks like an accident" in key.warnings[0]
