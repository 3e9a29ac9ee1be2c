"""The verifier over time: what it remembers, when it forgets, which secrets it takes."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from manor_mcp_interceptors import Settings, SettingsError, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors._keys import secret_file
from manor_mcp_interceptors._keys.keys import SigningKey
from manor_mcp_interceptors._keys.tokens import mint
from manor_mcp_interceptors.server import _verification
from manor_mcp_interceptors.server._memory import CAPACITY
from manor_mcp_interceptors.server._verification import Judge
from manor_mcp_interceptors.server.verifier import Reason
from tests.server.forging import NOW, claims, forge
from tests.support import OTHER_SECRET, SECRET, FakeClock

THIRD_SECRET = "a-third-one--" + "5555555555" * 3


def reason(verifier: TokenVerifier, token: str) -> str | None:
    """Return why `token` is refused; None where it is accepted."""
    try:
        verifier.verify(token)
    except TokenRejectedError as error:
        return error.reason
    return None


@pytest.fixture
def judged_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tokens whose signature was looked at, in order."""
    seen: list[str] = []
    real: Callable[..., bytes] = _verification._signed_payload

    def noting(token: str, keys: Any) -> bytes:
        seen.append(token)
        return real(token, keys)

    monkeypatch.setattr(_verification, "_signed_payload", noting)
    return seen


def test_a_minted_token_is_verified(settings: Settings, clock: FakeClock) -> None:
    """What one door mints the other accepts, and tells whose call it is."""
    made = mint(settings, SigningKey(SECRET, None, "test"), clock.time())
    caller = TokenVerifier(settings, clock=clock).verify(made.value)
    assert caller.subject == settings.subject
    assert (caller.issuer, caller.audience) == (settings.issuer, settings.audience)
    assert (caller.issued_at, caller.expires_at) == (made.issued_at, made.expires_at)
    assert set(caller.claims) == {"iss", "aud", "sub", "iat", "exp"}


def test_a_verified_token_cannot_be_changed(settings: Settings, clock: FakeClock) -> None:
    """Requests share it: no handler may change another's caller, at any depth."""
    caller = TokenVerifier(settings, clock=clock).verify(
        forge(claims(roles=["reader"], nested={"a": {"b": 1}}))
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        caller.subject = "admin"  # type: ignore[misc]
    with pytest.raises(TypeError):
        caller.claims["sub"] = "admin"  # type: ignore[index]
    with pytest.raises(TypeError):
        caller.claims["nested"]["a"]["b"] = 2
    assert caller.claims["roles"] == ("reader",)
    assert caller.copy_claims()["nested"] == {"a": {"b": 1}}
    caller.copy_claims()["nested"]["a"]["b"] = 2
    assert caller.copy_claims() == claims(roles=["reader"], nested={"a": {"b": 1}})
    assert hash(caller)
    assert "reader" not in repr(caller)


# Memory


def test_a_token_is_judged_once(
    settings: Settings, clock: FakeClock, judged_anew: list[str]
) -> None:
    """The second verification is a look-up."""
    verifier, token = TokenVerifier(settings, clock=clock), forge(claims())
    assert verifier.verify(token) is verifier.verify(token)
    assert verifier.judge_authorization([f"Bearer {token}"]) is verifier.verify(token)
    assert judged_anew == [token]


def test_a_remembered_token_is_refused_the_second_it_expires(
    settings: Settings, clock: FakeClock, judged_anew: list[str]
) -> None:
    """Memory never outlives exp."""
    verifier, token = TokenVerifier(settings, clock=clock), forge(claims(exp=NOW + 100))
    verifier.verify(token)
    clock.wall = NOW + 99.999
    assert reason(verifier, token) is None
    clock.wall = NOW + 100
    assert reason(verifier, token) == "expired"
    assert judged_anew == [token]


def test_a_leeway_is_kept_to(settings: Settings, clock: FakeClock) -> None:
    """Exp and nbf may be missed by as much as was allowed, remembered or not."""
    verifier = TokenVerifier(settings, clock=clock, leeway_seconds=10)
    token = forge(claims(exp=NOW + 100, nbf=NOW + 10))
    clock.wall = NOW - 0.001
    assert reason(verifier, token) == "not_yet_valid"
    clock.wall = NOW
    assert reason(verifier, token) is None
    clock.wall = NOW + 109.999
    assert reason(verifier, token) is None
    clock.wall = NOW + 110
    assert reason(verifier, token) == "expired"


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.one_of(st.floats(-100, 100), st.floats(-4000, 4000)),
        ),
        min_size=1,
        max_size=20,
    ),
)
def test_memory_changes_no_answer(steps: list[tuple[int, float]]) -> None:
    """Whatever the clock does, a remembered token and one seen for the first time fare alike."""
    clock = FakeClock(wall=NOW)
    settings = Settings(secret=SECRET)
    verifier = TokenVerifier(settings, clock=clock)
    tokens = [
        forge(claims(exp=NOW + 50)),
        forge(claims(iat=NOW + 70)),
        forge(claims(nbf=NOW + 20, exp=NOW + 2000)),
        forge(claims(), secret=OTHER_SECRET),
    ]
    for index, seconds in steps:
        clock.wall += seconds
        token = tokens[index]
        assert reason(verifier, token) == reason(TokenVerifier(settings, clock=clock), token)


def test_bad_tokens_leave_no_trace(settings: Settings, clock: FakeClock) -> None:
    """A flood of them neither grows the memory nor drives good ones out of it."""
    verifier, good = TokenVerifier(settings, clock=clock), forge(claims())
    verifier.verify(good)
    head, payload, _ = good.split(".")
    for number in range(2000):
        assert reason(verifier, f"{head}.{payload}.{number:043d}") is not None
    assert reason(verifier, forge(claims(exp=NOW - 1))) == "expired"
    assert len(verifier._law.memory) == 1


def test_memory_is_bounded_and_keeps_what_is_used(
    settings: Settings,
    clock: FakeClock,
    judged_anew: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood of distinct good tokens is bounded, and a token in use survives it."""
    monkeypatch.setattr("manor_mcp_interceptors.server._memory.CAPACITY", 50)
    verifier, good = TokenVerifier(settings, clock=clock), forge(claims())
    for number in range(500):
        verifier.verify(good)
        verifier.verify(forge(claims(jti=str(number))))
        assert len(verifier._law.memory) <= 100
    assert judged_anew.count(good) == 1
    assert CAPACITY < 10_000


def test_memory_holds_no_token(
    settings: Settings, clock: FakeClock, judged_anew: list[str]
) -> None:
    """What outlasts the recheck interval is a digest: who reads the memory has nothing to send."""
    verifier, token, other = TokenVerifier(settings, clock=clock), forge(claims()), forge({})
    verifier.verify(token)
    assert token in verifier._law.at_hand
    clock.advance(settings.recheck_seconds)
    assert reason(verifier, other) == "claim_missing"
    assert verifier._law.at_hand == {}
    assert [type(key) for key in verifier._law.memory._young] == [bytes]
    verifier.verify(token)
    assert judged_anew.count(token) == 1
    assert token not in repr(verifier._law)
    assert SECRET not in repr(verifier._law)


def test_what_is_at_hand_is_bounded_too(
    settings: Settings, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of distinct good tokens within one recheck interval: the rest goes by digest."""
    monkeypatch.setattr("manor_mcp_interceptors.server._verification.CAPACITY", 50)
    verifier = TokenVerifier(settings, clock=clock)
    for number in range(100):
        verifier.verify(forge(claims(jti=str(number))))
    assert len(verifier._law.at_hand) == 50
    assert len(verifier._law.memory) == 100


def test_what_is_at_hand_expires(settings: Settings, clock: FakeClock) -> None:
    """A token's own end comes before that of the recheck interval, and not a moment later."""
    patient = dataclasses.replace(settings, recheck_seconds=10_000)
    verifier, token = TokenVerifier(patient, clock=clock), forge(claims(exp=NOW + 2))
    for _ in range(2):
        verifier.verify(token)
        clock.advance(1)
    assert reason(verifier, token) == "expired"
    verifier.verify(other := forge(claims()))
    clock.wall -= 100  # which ends the interval as well
    assert reason(verifier, other) == "not_yet_valid"


def test_a_flood_of_bad_tokens_costs_no_memory(settings: Settings, clock: FakeClock) -> None:
    """Nothing of a refused token is kept, in logs' bookkeeping neither."""
    verifier, token = TokenVerifier(settings, clock=clock), forge(claims(), secret=OTHER_SECRET)
    reason(verifier, token)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(500):
            reason(verifier, token)
        gc.collect()
        ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/manor_mcp_interceptors/*")
        snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in snapshot.traces) < 20_000


# Secrets that change


def write(path: Path, secret: str) -> None:
    """Replace the file at once, as a mounted secret is."""
    new = path.with_suffix(".new")
    new.write_text(secret)
    os.replace(new, path)


def test_a_replaced_secret_is_gone_within_the_recheck(tmp_path: Path, clock: FakeClock) -> None:
    """A remembered token of a secret that was taken away is refused, and its successor taken."""
    path = tmp_path / "secret"
    write(path, SECRET)
    verifier = TokenVerifier(Settings(secret_file=path), clock=clock)
    old, new = forge(claims()), forge(claims(), secret=OTHER_SECRET)
    assert (reason(verifier, old), reason(verifier, new)) == (None, "signature")
    write(path, OTHER_SECRET)
    clock.advance(1)
    assert (reason(verifier, old), reason(verifier, new)) == ("signature", None)


def test_a_recheck_of_zero_asks_at_every_call(tmp_path: Path, clock: FakeClock) -> None:
    """Then a secret that was taken away is gone at once."""
    path = tmp_path / "secret"
    write(path, SECRET)
    verifier = TokenVerifier(Settings(secret_file=path, recheck_seconds=0), clock=clock)
    assert reason(verifier, forge(claims())) is None
    write(path, OTHER_SECRET)
    assert reason(verifier, forge(claims())) == "signature"


def test_a_clock_that_is_set_back_ends_the_recheck(tmp_path: Path, clock: FakeClock) -> None:
    """An hour back must not mean an hour with yesterday's secret."""
    path = tmp_path / "secret"
    write(path, SECRET)
    verifier = TokenVerifier(Settings(secret_file=path), clock=clock)
    token = forge(claims(iat=NOW - 7200))
    assert reason(verifier, token) is None
    write(path, OTHER_SECRET)
    clock.step_wall(-3600)
    assert reason(verifier, token) == "signature"


def test_a_rotation_refuses_nothing(tmp_path: Path, clock: FakeClock) -> None:
    """Verifiers first, then signers, then the old secret goes: every step accepts what is sent."""
    current, previous = tmp_path / "current", tmp_path / "previous"
    write(current, SECRET)
    verifier = TokenVerifier(
        Settings(secret_file=current, previous_secret_file=previous), clock=clock
    )
    old, new = forge(claims()), forge(claims(), secret=OTHER_SECRET)
    assert (reason(verifier, old), reason(verifier, new)) == (None, "signature")

    write(previous, SECRET)
    write(current, OTHER_SECRET)
    clock.advance(1)
    assert (reason(verifier, old), reason(verifier, new)) == (None, None)

    previous.unlink()
    clock.advance(1)
    assert (reason(verifier, old), reason(verifier, new)) == ("signature", None)


@pytest.mark.parametrize("emptied", [True, False])
def test_a_previous_secret_ends_with_its_file(
    emptied: bool,
    tmp_path: Path,
    clock: FakeClock,
) -> None:
    """Emptied or deleted: unlike the current secret, its last good value does not live on."""
    path = tmp_path / "previous"
    write(path, OTHER_SECRET)
    verifier = TokenVerifier(Settings(secret=SECRET, previous_secret_file=path), clock=clock)
    token = forge(claims(), secret=OTHER_SECRET)
    assert reason(verifier, token) is None
    write(path, "") if emptied else path.unlink()
    clock.advance(1)
    assert reason(verifier, token) == "signature"


def test_the_current_secret_survives_a_damaged_file(tmp_path: Path, clock: FakeClock) -> None:
    """A file that is emptied or lost by mistake refuses no caller."""
    path = tmp_path / "secret"
    write(path, SECRET)
    verifier = TokenVerifier(Settings(secret_file=path), clock=clock)
    damages: list[Callable[[], None]] = [lambda: write(path, ""), path.unlink]
    for damage in damages:
        damage()
        clock.advance(1)
        assert reason(verifier, forge(claims())) is None


def test_a_secret_written_in_place_is_news_once_and_soon(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits until its writer is done, and no recheck longer; then one line says so."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "secret"
    path.write_text(SECRET)
    os.utime(path, (NOW, NOW))
    patient = Settings(secret_file=path, recheck_seconds=60)
    verifier, new = TokenVerifier(patient, clock=clock), forge(claims(), secret=OTHER_SECRET)
    clock.advance(60)
    path.write_text(OTHER_SECRET)
    os.utime(path, (clock.wall - 0.01, clock.wall - 0.01))
    assert reason(verifier, new) == "signature"
    clock.advance(0.05)
    assert reason(verifier, new) is None
    changes = [line for line in caplog.messages if line.endswith("secrets have changed")]
    assert len(changes) == 1


def test_a_damaged_previous_secret_leaves_the_current_one(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, judged_anew: list[str]
) -> None:
    """It is said in the log, once, and what is remembered stays so."""
    path = tmp_path / "previous"
    verifier = TokenVerifier(Settings(secret=SECRET, previous_secret_file=path), clock=clock)
    path.write_bytes(b"\xff\xfe")
    for _ in range(3):
        clock.advance(1)
        assert reason(verifier, forge(claims())) is None
    assert len(judged_anew) == 1
    (line,) = [r.getMessage() for r in caplog.records if "previous" in r.getMessage()]
    assert "is not UTF-8 text" in line
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        TokenVerifier(Settings(secret=SECRET, previous_secret_file=path))


NAMES_OF_SECRETS = {SECRET: "current", OTHER_SECRET: "previous", THIRD_SECRET: "third"}


@pytest.mark.parametrize(
    ("own_kid", "previous", "kid", "secret", "expected"),
    [
        # no kid configured: it is not looked at
        (None, OTHER_SECRET, "any", SECRET, None),
        (None, OTHER_SECRET, "any", OTHER_SECRET, None),
        (None, OTHER_SECRET, None, OTHER_SECRET, None),
        (None, OTHER_SECRET, None, THIRD_SECRET, "signature"),
        # configured, and the token has none: both are tried
        ("k2", OTHER_SECRET, None, SECRET, None),
        ("k2", OTHER_SECRET, None, OTHER_SECRET, None),
        ("k2", None, None, OTHER_SECRET, "signature"),
        # configured, and the token has it: the current one alone
        ("k2", OTHER_SECRET, "k2", SECRET, None),
        ("k2", OTHER_SECRET, "k2", OTHER_SECRET, "signature"),
        # another: the previous one alone, or unknown
        ("k2", OTHER_SECRET, "k1", OTHER_SECRET, None),
        ("k2", OTHER_SECRET, "k1", SECRET, "signature"),
        ("k2", None, "k1", SECRET, "unknown_key"),
    ],
    ids=lambda value: NAMES_OF_SECRETS.get(value, value),
)
def test_which_secret_a_kid_means(
    own_kid: str | None,
    previous: str | None,
    kid: str | None,
    secret: str,
    expected: str | None,
    clock: FakeClock,
) -> None:
    """A kid chooses the secret; where there is none, both are tried."""
    settings = Settings(secret=SECRET, key_id=own_kid, previous_secret=previous)
    header = {"alg": "HS256"} if kid is None else {"alg": "HS256", "kid": kid}
    token = forge(claims(), header=header, secret=secret)
    assert reason(TokenVerifier(settings, clock=clock), token) == expected


# The environment


def test_without_a_secret_there_is_no_verifier() -> None:
    """A server that could let nobody in, or everybody, fails when it starts."""
    with pytest.raises(SettingsError, match="MCP_AUTH_SECRET"):
        TokenVerifier.from_env()
    with pytest.raises(SettingsError, match="MCP_AUTH_SECRET"):
        TokenVerifier(Settings())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MCP_AUTH_AUDIENCE", " "),
        ("MCP_AUTH_TTL_SECONDS", "1h"),
        ("MCP_AUTH_SECRET_FILE", "/nowhere/at/all"),
        ("MCP_AUTH_PREVIOUS_SECRET_FILE", "/"),
    ],
)
def test_a_wrong_variable_is_named_at_the_start(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Construction raises, and tells which."""
    if variable != "MCP_AUTH_SECRET_FILE":
        monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        TokenVerifier.from_env()


def test_the_environment_is_followed(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """A secret that goes, is garbled, or returns, is noticed; meanwhile everything is refused."""
    monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    verifier, token = TokenVerifier.from_env(clock=clock), forge(claims())
    assert reason(verifier, token) is None

    def after(name: str, value: str | None) -> str | None:
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
        clock.advance(1)
        return reason(verifier, token)

    assert after("MCP_AUTH_SECRET", None) == "not_configured"
    assert after("MCP_AUTH_SECRET", OTHER_SECRET) == "signature"
    assert after("MCP_AUTH_PREVIOUS_SECRET", SECRET) is None
    assert after("MCP_AUTH_RECHECK_SECONDS", "soon") == "invalid_config"
    assert after("MCP_AUTH_RECHECK_SECONDS", None) is None
    assert after("MCP_AUTH_AUDIENCE", "other-mcp") == "audience"
    assert after("MCP_AUTH_AUDIENCE", None) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"leeway_seconds": -1},
        {"leeway_seconds": float("nan")},
        {"leeway_seconds": float("inf")},
        {"allowed_subjects": "service-a"},
    ],
)
def test_a_wrong_argument_is_named_at_the_start(wrong: dict[str, Any]) -> None:
    """Construction raises, and tells which."""
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        TokenVerifier(Settings(secret=SECRET), **wrong)


def test_the_current_secret_is_read_before_the_previous_one(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation that comes in between the two looks leaves the secret in between accepted."""
    current, previous = tmp_path / "current", tmp_path / "previous"
    write(previous, THIRD_SECRET)
    write(current, SECRET)
    verifier = TokenVerifier(
        Settings(secret_file=current, previous_secret_file=previous), clock=clock
    )
    real = secret_file._read

    def rotating(path: str) -> Any:
        contents = real(path)
        if path == str(current):
            write(previous, SECRET)
            write(current, OTHER_SECRET)
        return contents

    monkeypatch.setattr(secret_file, "_read", rotating)
    clock.advance(1)
    assert reason(verifier, forge(claims())) is None
    clock.advance(1)
    assert reason(verifier, forge(claims())) is None
    assert reason(verifier, forge(claims(), secret=OTHER_SECRET)) is None


# Log and counts


def test_refusals_are_counted_and_logged_with_restraint(
    settings: Settings, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One line per reason and minute, with how many there were; no token, no claim."""
    verifier = TokenVerifier(settings, clock=clock)
    expired = forge(claims(exp=NOW - 1, sub="very-private-subject"))
    for _ in range(1000):
        reason(verifier, expired)
        reason(verifier, "x.y.z")
    verifier.judge_authorization([])
    verifier.judge_authorization(["Basic dXNlcjpwYXNz"])
    clock.advance(60)
    reason(verifier, expired)

    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "MCP auth refused a call: expired (1 since the last such line)",
        "MCP auth refused a call: malformed (1 since the last such line)",
        "MCP auth refused a call: missing (1 since the last such line)",
        "MCP auth refused a call: not_bearer (1 since the last such line)",
        "MCP auth refused a call: expired (1000 since the last such line)",
    ]
    assert verifier.rejections() == {
        "missing": 1,
        "not_bearer": 1,
        "malformed": 1000,
        "expired": 1001,
    }


def test_a_refusal_shows_no_token(settings: Settings, clock: FakeClock) -> None:
    """Not in the error, and not in a traceback that prints our frames' locals."""
    verifier = TokenVerifier(settings, clock=clock)
    for token in (forge(claims(exp=NOW - 1)), forge(claims(), secret=OTHER_SECRET)):
        with pytest.raises(TokenRejectedError) as refusal:
            verifier.verify(token)
        error = refusal.value
        assert (error.__cause__, error.__context__) == (None, None)
        assert token not in str(error)
        assert isinstance(Reason(error.reason), Reason)
        frame = error.__traceback__
        while frame is not None:
            if "manor_mcp_interceptors" in frame.tb_frame.f_code.co_filename:
                assert not any(token in repr(value) for value in frame.tb_frame.f_locals.values())
            frame = frame.tb_next


def test_an_error_of_ours_is_a_refusal(
    settings: Settings,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody gets in by it and nothing crashes; a warning names the error, and floods no log."""
    caplog.set_level(logging.WARNING, "manor_mcp_interceptors")
    verifier = TokenVerifier(settings, clock=clock)

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(_verification, "_signed_payload", broken)
    assert reason(verifier, forge(claims())) == "internal"
    monkeypatch.setattr(Judge, "_look", broken)
    clock.advance(1)
    assert reason(verifier, forge(claims())) == "internal"
    assert caplog.messages == [
        "MCP auth refused a call: internal: ZeroDivisionError (1 since the last such line)"
    ]


def test_remarks_on_the_secret_are_made_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A short secret works, and is remarked upon once, not at each recheck."""
    verifier = TokenVerifier(Settings(secret="short"), clock=clock)
    for _ in range(3):
        clock.advance(1)
        assert reason(verifier, forge(claims(), secret="short")) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "is 5 bytes long" in caplog.records[0].getMessage()


def test_threads_share_a_verifier(tmp_path: Path) -> None:
    """Eight threads, a secret that rotates under them with overlap: not one refusal, no error."""
    current, previous = tmp_path / "current", tmp_path / "previous"
    write(previous, SECRET)
    write(current, OTHER_SECRET)
    clock = FakeClock()
    verifier = TokenVerifier(
        Settings(secret_file=current, previous_secret_file=previous, recheck_seconds=0), clock=clock
    )
    tokens = [forge(claims(jti=str(n)), secret=(SECRET, OTHER_SECRET)[n % 2]) for n in range(20)]
    found: set[str | None] = set()
    start = threading.Barrier(9)

    def work() -> None:
        start.wait()
        for _ in range(10):
            found.update(reason(verifier, token) for token in tokens)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    for _ in range(20):  # the same two secrets, written again and again
        write(previous, SECRET)
        write(current, OTHER_SECRET)
    for thread in threads:
        thread.join()
    assert found == {None}
