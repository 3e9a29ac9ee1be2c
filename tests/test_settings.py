"""The variables: what is read, what is refused, and what the message says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manor_mcp_interceptors import Settings, SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.settings import VARIABLES, enforcement_settings, flag_and_subject
from tests.support import SECRET


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    """Each default is the one that the contract's table names."""
    settings = Settings.from_env({})
    assert settings == Settings()
    assert (settings.issuer, settings.audience, settings.subject) == (
        "manor-internal",
        "service-search-mcp",
        "service-application",
    )
    assert (settings.ttl_seconds, settings.margin_seconds) == (3600, 30)
    assert (settings.clock_skew_seconds, settings.recheck_seconds) == (5, 1.0)
    assert settings.feature_flag == "manor_search_enable_api_token_v1"
    assert settings.secret is settings.secret_file is settings.key_id is None
    assert settings.allowed_hosts is None


def test_every_variable_reaches_its_field() -> None:
    """No variable is read and then dropped."""
    environ = {
        "MCP_AUTH_SECRET": SECRET,
        "MCP_AUTH_SECRET_FILE": "/run/secrets/mcp",
        "MCP_AUTH_PRIVATE_KEY_FILE": "/run/secrets/key.pem",
        "MCP_AUTH_TOKEN_FILE": "/run/secrets/token",
        "MCP_AUTH_ISSUER": "iss",
        "MCP_AUTH_AUDIENCE": "aud",
        "MCP_AUTH_SUBJECT": "sub",
        "MCP_AUTH_SCOPE": "search:read  search:write",
        "MCP_AUTH_TTL_SECONDS": "60",
        "MCP_AUTH_MARGIN_SECONDS": "0",
        "MCP_AUTH_FEATURE_FLAG": "flag",
        "MCP_AUTH_CLOCK_SKEW_SECONDS": "2",
        "MCP_AUTH_RECHECK_SECONDS": "0.5",
        "MCP_AUTH_KEY_ID": "2026-11",
        "MCP_AUTH_PREVIOUS_SECRET": "before",
        "MCP_AUTH_PREVIOUS_SECRET_FILE": "/run/secrets/mcp-before",
        "MCP_AUTH_JWKS_FILE": "/run/config/callers.jwks",
        "MCP_AUTH_ISSUED_AT": "optional",
        "MCP_AUTH_ALLOWED_SUBJECTS": "service-a, ns:shop:*",
        "MCP_AUTH_ENFORCEMENT": "observe",
        "MCP_AUTH_ENFORCEMENT_FLAG": "enforce-tokens",
        "MCP_AUTH_ALLOWED_HOSTS": "a.example, *.b.example:8443",
    }
    assert set(environ) == {variable.name for variable in VARIABLES}
    assert Settings.from_env(environ) == Settings(
        secret=SECRET,
        secret_file="/run/secrets/mcp",
        private_key_file="/run/secrets/key.pem",
        token_file="/run/secrets/token",
        issuer="iss",
        audience="aud",
        subject="sub",
        scope="search:read search:write",
        ttl_seconds=60,
        margin_seconds=0,
        feature_flag="flag",
        clock_skew_seconds=2,
        recheck_seconds=0.5,
        key_id="2026-11",
        previous_secret="before",
        previous_secret_file="/run/secrets/mcp-before",
        jwks_file="/run/config/callers.jwks",
        issued_at="optional",
        allowed_subjects=("service-a", "ns:shop:*"),
        enforcement="observe",
        enforcement_flag="enforce-tokens",
        allowed_hosts=("a.example", "*.b.example:8443"),
    )


def test_the_environment_is_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set later is seen by the next call."""
    assert Settings.from_env().audience == "service-search-mcp"
    monkeypatch.setenv("MCP_AUTH_AUDIENCE", "late")
    assert Settings.from_env().audience == "late"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("MCP_AUTH_TTL_SECONDS", text) for text in ("abc", "-1", "0", "1h", "3600.0", "", "٣")),
        *(("MCP_AUTH_TTL_SECONDS", text) for text in ("1_000", "+5", "9" * 400, "0x10")),
        *(("MCP_AUTH_MARGIN_SECONDS", text) for text in ("-1", "30s", "1.5")),
        *(("MCP_AUTH_CLOCK_SKEW_SECONDS", text) for text in ("-1", "x")),
        *(("MCP_AUTH_RECHECK_SECONDS", text) for text in ("-0.1", "nan", "inf", "1s", "")),
        *(("MCP_AUTH_SUBJECT", text) for text in ("", "  ")),
        *(("MCP_AUTH_ISSUER", text) for text in ("", "\udcff")),
        ("MCP_AUTH_AUDIENCE", ""),
        ("MCP_AUTH_FEATURE_FLAG", " "),
        *(("MCP_AUTH_ENFORCEMENT", text) for text in ("observ", "off", "0")),
        ("MCP_AUTH_ENFORCEMENT_FLAG", "\udcff"),
        *(("MCP_AUTH_ALLOWED_SUBJECTS", text) for text in ("", "a,,b", "a*", "*", ":*", "a,*:b")),
        *(("MCP_AUTH_SCOPE", text) for text in ('a"b', "a\\b", "a b\x7f", "schön", "a\u00a0ü")),
        *(("MCP_AUTH_ALLOWED_HOSTS", text) for text in ("", "a.example,,b.example")),
    ],
)
def test_a_bad_value_is_never_guessed_at(name: str, text: str) -> None:
    """The error names the variable, shows the value and states the form."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: text})
    assert caught.value.variable == name
    assert caught.value.outcome is Outcome.INVALID_CONFIG
    message = str(caught.value)
    assert message.startswith(f"{name}=")
    assert repr(text)[:40] in message
    assert next(v.form for v in VARIABLES if v.name == name) in message


def test_a_malformed_secret_is_not_shown() -> None:
    """A secret stays out of the message that refuses it."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"MCP_AUTH_SECRET": "hush\udcff"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "MCP_AUTH_SECRET",
        "MCP_AUTH_SECRET_FILE",
        "MCP_AUTH_KEY_ID",
        "MCP_AUTH_SCOPE",
        "MCP_AUTH_PREVIOUS_SECRET",
        "MCP_AUTH_PREVIOUS_SECRET_FILE",
        "MCP_AUTH_ENFORCEMENT",
        "MCP_AUTH_ENFORCEMENT_FLAG",
    ],
)
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_a_blank_value_of_these_counts_as_missing(name: str, blank: str) -> None:
    """An empty secret is no secret, rather than a bad one."""
    assert Settings.from_env({name: blank}) == Settings()


@pytest.mark.parametrize(
    "field",
    [
        {"ttl_seconds": "3600"},
        {"ttl_seconds": 0},
        {"ttl_seconds": True},
        {"ttl_seconds": 60.0},
        {"margin_seconds": -1},
        {"recheck_seconds": float("nan")},
        {"recheck_seconds": float("inf")},
        {"recheck_seconds": 10**400},
        {"issuer": ""},
        {"issuer": None},
        {"audience": 7},
        {"secret": " "},
        {"secret_file": "/run/secrets/a\0b"},
        {"previous_secret_file": Path("/run/secrets/a\0b")},
        {"allowed_hosts": ()},
        {"secret_file": b"/run/secrets/mcp"},
        {"allowed_hosts": "a.example,,b.example"},
        {"allowed_hosts": ["a.example", "http://b.example"]},
        {"allowed_hosts": [7]},
        {"allowed_hosts": b"a.example"},
        {"allowed_hosts": 7},
    ],
)
def test_settings_made_in_code_must_have_the_same_forms(field: dict[str, Any]) -> None:
    """The message names the field and its variable."""
    (name,) = field
    with pytest.raises(SettingsError, match=rf"Settings\.{name} \(MCP_AUTH_{name.upper()}\)"):
        Settings(**field)


def test_the_subject_falls_back_to_the_service_name() -> None:
    """SERVICE_NAME is somebody else's variable: a blank one is no error."""
    assert Settings.from_env({"SERVICE_NAME": "billing"}).subject == "billing"
    assert Settings.from_env({"SERVICE_NAME": " "}).subject == "service-application"
    both = {"SERVICE_NAME": "billing", "MCP_AUTH_SUBJECT": "ledger"}
    assert Settings.from_env(both).subject == "ledger"


def test_flag_and_subject_are_known_whatever_else_is_wrong() -> None:
    """The flag is evaluated before the settings are checked."""
    environ = {"MCP_AUTH_TTL_SECONDS": "1h", "MCP_AUTH_FEATURE_FLAG": "f", "SERVICE_NAME": "s"}
    assert flag_and_subject(environ) == ("f", "s")


def test_enforcement_is_known_whatever_else_is_wrong() -> None:
    """A broken variable beside it does not turn observe mode off; a broken one itself enforces."""
    environ = {"MCP_AUTH_TTL_SECONDS": "1h", "MCP_AUTH_ENFORCEMENT": "observe"}
    assert enforcement_settings(environ).enforcement == "observe"
    environ |= {"MCP_AUTH_ENFORCEMENT_FLAG": " f ", "MCP_AUTH_SUBJECT": "\udcff"}
    found = enforcement_settings(environ)
    assert (found.enforcement_flag, found.subject) == ("f", "service-application")
    environ |= {"MCP_AUTH_ENFORCEMENT": "observ"}
    assert enforcement_settings(environ).enforcement == "enforce"


VALUES = {
    "MCP_AUTH_SECRET_FILE": "/run/secrets/mcp",
    "MCP_AUTH_PRIVATE_KEY_FILE": "/run/secrets/key.pem",
    "MCP_AUTH_TOKEN_FILE": "/run/secrets/token",
    "MCP_AUTH_ISSUER": "iss",
    "MCP_AUTH_AUDIENCE": "aud",
    "MCP_AUTH_SUBJECT": "sub",
    "MCP_AUTH_SCOPE": "search:read search:write",
    "MCP_AUTH_TTL_SECONDS": "60",
    "MCP_AUTH_MARGIN_SECONDS": "7",
    "MCP_AUTH_FEATURE_FLAG": "flag",
    "MCP_AUTH_CLOCK_SKEW_SECONDS": "2",
    "MCP_AUTH_RECHECK_SECONDS": "0.5",
    "MCP_AUTH_KEY_ID": "2026-11",
    "MCP_AUTH_PREVIOUS_SECRET_FILE": "/run/secrets/mcp-before",
    "MCP_AUTH_JWKS_FILE": "/run/config/callers.jwks",
    "MCP_AUTH_ISSUED_AT": "optional",
    "MCP_AUTH_ALLOWED_SUBJECTS": "service-a",
    "MCP_AUTH_ENFORCEMENT": "observe",
    "MCP_AUTH_ENFORCEMENT_FLAG": "enforce-tokens",
    "MCP_AUTH_ALLOWED_HOSTS": "a.example",
    "SERVICE_NAME": "service",
}


@pytest.mark.parametrize(("before", "after"), [("", "\r"), (" \t", "  \n"), ("\ufeff ", "\u200b")])
def test_white_space_around_a_value_is_not_part_of_it(before: str, after: str) -> None:
    """Of any variable or field: blanks, a CR from a Windows file, a BOM; secrets apart."""
    assert {variable.name for variable in VARIABLES if not variable.secret} < set(VALUES)
    clean = Settings.from_env(VALUES)
    padded = {name: f"{before}{text}{after}" for name, text in VALUES.items()}
    assert Settings.from_env(padded) == clean
    assert flag_and_subject(padded) == flag_and_subject(VALUES) == ("flag", "sub")
    del padded["MCP_AUTH_SUBJECT"]
    assert Settings.from_env(padded).subject == flag_and_subject(padded)[1] == "service"
    in_code: dict[str, Any] = {
        variable.field: getattr(clean, variable.field) for variable in VARIABLES
    }
    padded_in_code: dict[str, Any] = {
        name: f"{before}{value}{after}" if isinstance(value, str) else value
        for name, value in in_code.items()
    }
    assert Settings(**padded_in_code) == clean
    assert Settings(allowed_hosts=[f"{before}a.example{after}"]) == Settings(
        allowed_hosts="a.example"
    )


@pytest.mark.parametrize("white", [" ", "\r", "\ufeff"])
def test_white_space_around_a_secret_is_part_of_it(white: str) -> None:
    """Servers compare it byte for byte; a warning reports it."""
    secret = f"{white}{SECRET}{white}"
    for settings in (Settings(secret=secret), Settings.from_env({"MCP_AUTH_SECRET": secret})):
        assert settings.secret == secret


@pytest.mark.parametrize(
    "hosts",
    [
        "a.example, *.b.example:8443",
        ("a.example", "*.b.example:8443"),
        ["a.example", " *.b.example:8443 "],
        dict.fromkeys(["a.example", "*.b.example:8443"]),
    ],
    ids=["text", "tuple", "list", "dict"],
)
def test_allowed_hosts_are_text_with_commas_or_any_iterable(hosts: Any) -> None:
    """Held as a tuple; the variable takes the same text."""
    settings = Settings(allowed_hosts=hosts)
    assert settings.allowed_hosts == ("a.example", "*.b.example:8443")
    text = ",".join(hosts) if not isinstance(hosts, str) else hosts
    assert Settings.from_env({"MCP_AUTH_ALLOWED_HOSTS": text}) == settings
    assert hash(settings) == hash(replace(settings))
    assert Settings(allowed_hosts=iter(["a.example"])).allowed_hosts == ("a.example",)


def test_a_subclass_is_checked_as_well() -> None:
    """One that is a dataclass has an ``__init__`` that does not call the inherited one."""

    @dataclass(frozen=True)
    class Sub(Settings):
        extra: int = 0

    assert Sub(audience=" a ", extra=1).audience == "a"
    with pytest.raises(SettingsError, match="ttl_seconds"):
        Sub(ttl_seconds=0)


@given(st.dictionaries(st.sampled_from([v.name for v in VARIABLES]), st.text()))
def test_any_environment_gives_settings_or_a_settings_error(environ: dict[str, str]) -> None:
    """Reading variables has no other result, whatever they hold."""
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        assert error.variable in environ
    else:
        assert settings.ttl_seconds > 0
