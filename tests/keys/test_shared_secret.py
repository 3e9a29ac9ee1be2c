"""The form of a secret: used as it is, and reported if it looks like an accident."""

from __future__ import annotations

import base64
import random
import string
from pathlib import Path

import pytest

from manor_mcp_interceptors import Settings, TokenVerifier, get_token
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.shared_secret import SharedSecret
from tests.support import SECRET, signed_with

ACCIDENTS = {
    "white space at one end": [SECRET + "\n", " " + SECRET, SECRET + "\r", SECRET + "\u3000"],
    "a byte order mark (BOM)": ["\ufeff" + SECRET],
    "an invisible character": [SECRET + "\u200b", f"{SECRET}\xa0{SECRET}", f"{SECRET}\0x"],
    "quotes around it": [f'"{SECRET}"', f"'{SECRET}'", f'\ufeff"{SECRET}"\r'],
    "the form NAME=value": [f"MCP_AUTH_SECRET={SECRET}", f"export KEY={SECRET}", f"'a={SECRET}'"],
    "several lines": [f"{SECRET}\n{SECRET}", f"{SECRET}\r\nx"],
}


def key_of(secret: str) -> SharedSecret:
    return shared(Settings(secret=secret))


def shared(settings: Settings) -> SharedSecret:
    key = KeySource().signing_key(settings)
    assert isinstance(key, SharedSecret)
    return key


@pytest.mark.parametrize("words", ACCIDENTS)
def test_an_accident_in_a_secret_is_used_as_given_with_one_warning(words: str) -> None:
    """A server compares it byte for byte; the warning shows no part of it."""
    for secret in ACCIDENTS[words]:
        key = key_of(secret)
        assert key.secret == secret
        (warning,) = key.warnings
        assert warning.startswith("MCP_AUTH_SECRET has ")
        assert words in warning
        assert SECRET[:8] not in warning


def test_an_accident_in_a_secret_file_is_used_as_given_with_one_warning(tmp_path: Path) -> None:
    """Files written on Windows begin with a BOM; the variable's name is copied along with it."""
    file = tmp_path / "secret"
    file.write_bytes(b"\xef\xbb\xbfMCP_AUTH_SECRET=" + SECRET.encode() + b"\r\n")
    key = shared(Settings(secret_file=file))
    assert key.secret == f"\ufeffMCP_AUTH_SECRET={SECRET}"
    (warning,) = key.warnings
    assert "(BOM), the form NAME=value: this looks like an accident" in warning


def test_a_random_secret_has_no_warning() -> None:
    """Base64 in either alphabet, padded or not, hex, UUIDs, words."""
    random_bytes = random.Random(18).randbytes
    made = [random_bytes(32 + number % 3) for number in range(100)]
    texts = [base64.b64encode(one).decode() for one in made]
    texts += [base64.urlsafe_b64encode(one).decode().rstrip("=") for one in made]
    texts += [one.hex() for one in made]
    texts += ["correct horse battery staple, and more", string.punctuation, "ключ" * 8]
    assert [text for text in texts if key_of(text).warnings] == []


@pytest.mark.parametrize("size", [1, 31, 32])
def test_a_short_secret_is_used_with_one_warning(size: int) -> None:
    """RFC 7518 asks for 32 bytes; services that have fewer keep working."""
    key = key_of("x" * size)
    assert key.secret == "x" * size
    assert [f"is {size} bytes long" in text for text in key.warnings] == [True] * (size < 32)


def test_an_accident_in_a_secret_is_logged_once_by_client_and_verifier(
    env_on: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at each recheck."""
    secret = f'"{SECRET}"'
    monkeypatch.setenv("MCP_AUTH_SECRET", secret)
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "0")
    tokens = [get_token() for _ in range(3)]
    verifier = TokenVerifier()
    for token in tokens:
        assert signed_with(str(token), secret)
        verifier.verify(str(token))
    lines = [record.getMessage() for record in caplog.records if "quotes" in record.getMessage()]
    assert len(lines) == 2
    assert SECRET not in caplog.text
