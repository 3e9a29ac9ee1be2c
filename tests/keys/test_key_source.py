"""Where tokens come from, and whose are accepted: which settings go together."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from manor_mcp_interceptors import Settings, SettingsError, diagnose
from manor_mcp_interceptors._keys.keys import SOURCES, KeySource
from manor_mcp_interceptors.outcomes import Outcome
from tests.support import OTHER_SECRET, SECRET
from tests.support.key_pairs import key_pair, write_jwks

EC = key_pair("ES256")


@pytest.fixture
def values(tmp_path: Path) -> dict[str, str]:
    """Return a good value for each setting that names a key or a token."""
    files = {"secret_file": SECRET, "private_key_file": EC.pem(), "token_file": "a.b.c"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    jwks = write_jwks(tmp_path / "jwks", EC)
    paths = {name: str(tmp_path / name) for name in files}
    return {**paths, "secret": SECRET, "previous_secret": OTHER_SECRET, "jwks_file": str(jwks)}


@pytest.mark.parametrize("pair", [*itertools.combinations(SOURCES, 2)], ids="+".join)
def test_a_token_has_one_source(
    values: dict[str, str], monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str]
) -> None:
    """Two at once are refused, and named as they were set: in code, or in the environment."""
    given = {name: values[name] for name in pair}
    in_code = " and ".join(f"Settings.{name}" for name in pair)
    with pytest.raises(SettingsError, match=f"{in_code} are both set: unset one of them"):
        KeySource(in_code=True).signing_key(Settings(**given))  # type: ignore[arg-type]
    monkeypatch.setenv("MCP_AUTH_FEATURE_FLAG", "f")
    monkeypatch.setenv("F", "on")
    for name in pair:
        monkeypatch.setenv(f"MCP_AUTH_{name.upper()}", values[name])
    status = diagnose()
    assert status.outcome is Outcome.INVALID_CONFIG
    assert " and ".join(f"MCP_AUTH_{name.upper()}" for name in pair) in status.reason


@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        (["jwks_file"], (None, [], [EC.kid])),
        (["jwks_file", "private_key_file"], (None, [], [EC.kid])),
        (["jwks_file", "secret"], (SECRET, [], [EC.kid])),
        (["jwks_file", "previous_secret"], (None, [OTHER_SECRET], [EC.kid])),
        (["jwks_file", "previous_secret", "private_key_file"], (None, [OTHER_SECRET], [EC.kid])),
        (["jwks_file", "previous_secret", "secret"], (SECRET, [OTHER_SECRET], [EC.kid])),
        (["secret"], (SECRET, [], [])),
    ],
    ids=lambda each: "+".join(each) if isinstance(each, list) else "",
)
def test_what_a_verifier_accepts(
    values: dict[str, str],
    names: list[str],
    accepted: tuple[str | None, list[str], list[str]],
) -> None:
    """Secrets and public keys, whatever the service itself signs with."""
    settings = Settings(**{name: values[name] for name in names})  # type: ignore[arg-type]
    keys = KeySource().verification_keys(settings)
    current = None if keys.current is None else keys.current.secret
    public = [] if keys.public is None else list(keys.public.keys)
    assert (current, [key.secret for key in keys.previous], public) == accepted
    assert keys.problems == ()


@pytest.mark.parametrize("names", [[], ["previous_secret"], ["private_key_file"]])
def test_nothing_to_verify_with(values: dict[str, str], names: list[str]) -> None:
    """A retiring secret alone is none, nor is the key that a service signs with."""
    settings = Settings(**{name: values[name] for name in names})  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"set MCP_AUTH_SECRET.*MCP_AUTH_JWKS_FILE") as caught:
        KeySource().verification_keys(settings)
    assert caught.value.outcome is Outcome.NOT_CONFIGURED


@pytest.mark.parametrize("broken", ["secret_file", "jwks_file"])
def test_keys_that_are_not_usable_leave_the_others_in_use(
    values: dict[str, str], broken: str
) -> None:
    """Public keys beside a broken secret, a secret beside broken public keys; not neither."""
    Path(values[broken]).write_bytes(b"\xff")
    settings = Settings(secret_file=values["secret_file"], jwks_file=values["jwks_file"])
    keys = KeySource().verification_keys(settings)
    assert (keys.current is None, keys.public is None) == (
        broken == "secret_file",
        broken == "jwks_file",
    )
    assert [problem.variable for problem in keys.problems] == [f"MCP_AUTH_{broken.upper()}"]
    for name in ("secret_file", "jwks_file"):
        Path(values[name]).write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        KeySource().verification_keys(settings)
