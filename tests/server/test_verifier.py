"""The verifier over time: what it remembers, when it forgets, which secrets it accepts."""

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

from manor_mcp_interceptors import (
    Settings,
    SettingsError,
    TokenRejectedError,
    TokenVerifier,
    VerifiedToken,
)
from manor_mcp_interceptors._keys.keys import KeySource
from manor_mcp_interceptors._keys.shared_secret import SharedSecret
from manor_mcp_interceptors._keys.tokens import mint
from manor_mcp_interceptors._keys.watched_file import WatchedFile
from manor_mcp_interceptors.server.verifier import Reason, verification_of
from manor_mcp_interceptors.testing import auth_on
from tests.server.forging import NOW, claims, forge
from tests.support import OTHER_SECRET, SECRET, FakeClock
from tests.support.reachable import reachable

THIRD_SECRET = "a-third-one--" + "5555555555" * 3
VERIFICATION = "manor_mcp_interceptors.server._verification"


def reason(verifier: TokenVerifier, token: str) -> str | None:
    """Return why `token` is refused; None if it is accepted."""
    try:
        verifier.verify(token)
    except TokenRejectedError as error:
        return error.reason
    return None


def test_a_minted_token_is_verified(settings: Settings, clock: FakeClock) -> None:
    """The server half accepts what the client half mints, and identifies the caller."""
    made = mint(settings, SharedSecret(SECRET, None, "test"), clock.time())
    caller = TokenVerifier(settings, clock=clock).verify(made.value)
    assert caller.subject == settings.subject
    assert (caller.issuer, caller.audience) == (settings.issuer, settings.audience)
    assert (caller.issued_at, caller.expires_at) == (made.issued_at, made.expires_at)
    assert set(caller.claims) == {"iss", "aud", "sub", "iat", "exp"}


CHANGES: list[Callable[[Any], object]] = [
    lambda claims: claims.__setitem__("sub", "admin"),
    lambda claims: claims.__delitem__("sub"),
    lambda claims: claims.__ior__({"sub": "admin"}),
    lambda claims: claims.update(sub="admin"),
    lambda claims: claims.setdefault("more", "x"),
    lambda claims: claims.pop("sub"),
    lambda claims: claims.popitem(),
    lambda claims: claims.clear(),
]


def test_a_verified_token_cannot_be_changed(settings: Settings, clock: FakeClock) -> None:
    """Requests share it: no handler changes what the next request sees, at any depth."""
    verifier = TokenVerifier(settings, clock=clock)
    sent = claims(roles=["reader"], nested={"a": {"sub": 1}})
    token = forge(sent)
    caller = verifier.verify(token)
    with pytest.raises(dataclasses.FrozenInstanceError):
        caller.subject = "admin"  # type: ignore[misc]
    for change in CHANGES:
        for each in (caller.claims, caller.claims["nested"]["a"]):
            with pytest.raises(TypeError, match="copy_claims"):
                change(each)
    assert caller.claims["roles"] == ("reader",)
    caller.copy_claims()["nested"]["a"]["sub"] = 2
    assert verifier.verify(token).copy_claims() == sent
    assert hash(caller)
    assert "reader" not in repr(caller)


# Remembered tokens


def test_a_token_is_verified_in_full_once(settings: Settings, clock: FakeClock) -> None:
    """The second verification is a look-up, by either entry point and after a recheck too."""
    verifier, token = TokenVerifier(settings, clock=clock), forge(claims())
    first = verifier.verify(token)
    assert verifier.verify(token) is first
    clock.advance(settings.recheck_seconds)
    assert verification_of(verifier).check_authorization([f"Bearer {token}"]) is first
    assert (verifier.stats().accepted, verifier.stats().remembered) == (1, 2)


@pytest.mark.parametrize("recheck_seconds", [1, 10_000])
@pytest.mark.parametrize("remembered", [False, True])
@pytest.mark.parametrize("process_wide", [False, True])
def test_exp_is_exact_from_both_sides(
    process_wide: bool,
    remembered: bool,
    recheck_seconds: int,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Accepted up to the last moment before `exp`, refused from that second on."""
    settings = Settings(secret=SECRET, recheck_seconds=recheck_seconds)
    token = forge(claims(exp=NOW + 100))
    with auth_on(SECRET, clock=clock):
        monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", str(recheck_seconds))
        given = None if process_wide else TokenVerifier(settings, clock=clock)
        check = verification_of(given).check_token
        if remembered:
            assert isinstance(check(token), VerifiedToken)
        clock.wall = NOW + 99.999
        assert isinstance(check(token), VerifiedToken)
        clock.wall = NOW + 100
        assert check(token) is Reason.EXPIRED


def test_a_leeway_is_kept_to(settings: Settings, clock: FakeClock) -> None:
    """`exp` and `nbf` may be missed by as much as was allowed, remembered or not."""
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


@pytest.mark.slow
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
def test_remembering_changes_no_result(steps: list[tuple[int, float]]) -> None:
    """Whatever the clock does, a remembered token gets the same result as a new one."""
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


def test_a_token_in_use_survives_a_flood_of_others(
    settings: Settings, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of distinct good tokens is bounded, within one recheck interval and over many."""
    monkeypatch.setattr(f"{VERIFICATION}.CAPACITY", 50)
    verifier, good = TokenVerifier(settings, clock=clock), forge(claims())
    gc.collect()
    before = _verified_tokens_alive()
    for number in range(500):
        verifier.verify(good)
        verifier.verify(forge(claims(jti=str(number))))
        clock.advance(0.01 if number < 250 else 0)
    assert verifier.stats().accepted == 501
    assert verifier.stats().remembered == 499
    assert 0 < _verified_tokens_alive() - before <= 100


def _verified_tokens_alive() -> int:
    return sum(isinstance(each, VerifiedToken) for each in gc.get_objects())


def test_a_token_that_is_not_used_is_forgotten(
    settings: Settings, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a flood of others it is verified in full again."""
    monkeypatch.setattr(f"{VERIFICATION}.CAPACITY", 50)
    verifier, good = TokenVerifier(settings, clock=clock), forge(claims())
    for number in range(101):
        verifier.verify(good if number == 0 else forge(claims(jti=str(number))))
    verifier.verify(good)
    assert (verifier.stats().accepted, verifier.stats().remembered) == (102, 0)


def test_bad_tokens_are_not_remembered(settings: Settings, clock: FakeClock) -> None:
    """A flood of them costs no memory, in the bookkeeping of the log neither."""
    verifier, good = TokenVerifier(settings, clock=clock), forge(claims())
    verifier.verify(good)
    head, payload, _ = good.split(".")
    assert reason(verifier, forge(claims(exp=NOW - 1))) == "expired"
    assert reason(verifier, f"{head}.{payload}.{0:043d}") == "signature"
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(500):
            reason(verifier, f"{head}.{payload}.{number:042d}A")
        gc.collect()
        of_the_package = tracemalloc.Filter(
            inclusive=True, filename_pattern="*/manor_mcp_interceptors/*"
        )
        snapshot = tracemalloc.take_snapshot().filter_traces([of_the_package])
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in snapshot.traces) < 20_000
    verifier.verify(good)
    assert (verifier.stats().accepted, verifier.stats().remembered) == (1, 1)


def test_a_verifier_holds_no_token(settings: Settings, clock: FakeClock) -> None:
    """It remembers by digest: a reader of its memory finds no token to send."""
    verifier, token = TokenVerifier(settings, clock=clock), forge(claims())
    verifier.verify(token)
    verifier.verify(token)
    texts = {each for each in reachable(verifier) if isinstance(each, str)}
    assert SECRET in texts  # the walk sees what the verifier holds
    assert token not in texts


# Secrets that change


def write(path: Path, secret: str) -> None:
    """Replace the file at once, as a mounted secret is."""
    new = path.with_suffix(".new")
    new.write_text(secret)
    os.replace(new, path)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_replaced_secret_is_gone_at_the_next_recheck(
    in_place: bool, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A remembered token of the old secret is refused, one of the new secret accepted."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "secret"
    write(path, SECRET)
    verifier = TokenVerifier(Settings(secret_file=path), clock=clock)
    old, new = forge(claims()), forge(claims(), secret=OTHER_SECRET)
    assert (reason(verifier, old), reason(verifier, new)) == (None, "signature")
    path.write_text(OTHER_SECRET) if in_place else write(path, OTHER_SECRET)
    assert (reason(verifier, old), reason(verifier, new)) == (None, "signature")
    for _ in range(2):
        clock.advance(1)
        assert (reason(verifier, old), reason(verifier, new)) == ("signature", None)
    changes = [line for line in caplog.messages if line.endswith("secrets have changed")]
    assert len(changes) == 1


def test_a_recheck_of_zero_reads_at_every_call(tmp_path: Path, clock: FakeClock) -> None:
    """A secret that was taken away is refused at once."""
    path = tmp_path / "secret"
    write(path, SECRET)
    verifier = TokenVerifier(Settings(secret_file=path, recheck_seconds=0), clock=clock)
    assert reason(verifier, forge(claims())) is None
    write(path, OTHER_SECRET)
    assert reason(verifier, forge(claims())) == "signature"


def test_a_clock_that_is_set_back_ends_the_recheck(tmp_path: Path, clock: FakeClock) -> None:
    """A clock set back by an hour must not keep an old secret for an hour."""
    path = tmp_path / "secret"
    write(path, SECRET)
    verifier = TokenVerifier(Settings(secret_file=path), clock=clock)
    token = forge(claims(iat=NOW - 7200))
    assert reason(verifier, token) is None
    write(path, OTHER_SECRET)
    clock.step_wall(-3600)
    assert reason(verifier, token) == "signature"


def test_a_rotation_refuses_nothing(tmp_path: Path, clock: FakeClock) -> None:
    """Verifiers first, then signers, then the old secret is removed: no step refuses a token."""
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
    """Emptied or deleted: unlike for the current secret, the last good value is not kept."""
    path = tmp_path / "previous"
    write(path, OTHER_SECRET)
    verifier = TokenVerifier(Settings(secret=SECRET, previous_secret_file=path), clock=clock)
    token = forge(claims(), secret=OTHER_SECRET)
    assert reason(verifier, token) is None
    write(path, "") if emptied else path.unlink()
    clock.advance(1)
    assert reason(verifier, token) == "signature"


def test_the_current_secret_survives_a_damaged_file(tmp_path: Path, clock: FakeClock) -> None:
    """If the file is emptied or lost by mistake, no caller is refused."""
    path = tmp_path / "secret"
    write(path, SECRET)
    verifier = TokenVerifier(Settings(secret_file=path), clock=clock)
    damages: list[Callable[[], None]] = [lambda: write(path, ""), path.unlink]
    for damage in damages:
        damage()
        clock.advance(1)
        assert reason(verifier, forge(claims())) is None


def test_a_damaged_previous_secret_leaves_the_current_one(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One log line names the problem, and remembered tokens stay remembered."""
    path = tmp_path / "previous"
    verifier = TokenVerifier(Settings(secret=SECRET, previous_secret_file=path), clock=clock)
    path.write_bytes(b"\xff\xfe")
    for _ in range(3):
        clock.advance(1)
        assert reason(verifier, forge(claims())) is None
    assert verifier.stats().accepted == 1
    (line,) = [r.getMessage() for r in caplog.records if "previous" in r.getMessage()]
    assert "is not UTF-8 text" in line
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        TokenVerifier(Settings(secret=SECRET, previous_secret_file=path))


NAMES_OF_SECRETS = {SECRET: "current", OTHER_SECRET: "previous", THIRD_SECRET: "third"}


@pytest.mark.parametrize(
    ("own_kid", "previous", "kid", "secret", "expected"),
    [
        # no kid configured: the token's kid is ignored
        (None, OTHER_SECRET, "any", SECRET, None),
        (None, OTHER_SECRET, "any", OTHER_SECRET, None),
        (None, OTHER_SECRET, None, OTHER_SECRET, None),
        (None, OTHER_SECRET, None, THIRD_SECRET, "signature"),
        # configured, and the token has none: both are tried
        ("k2", OTHER_SECRET, None, SECRET, None),
        ("k2", OTHER_SECRET, None, OTHER_SECRET, None),
        ("k2", None, None, OTHER_SECRET, "signature"),
        # configured: during a rotation both are tried, whichever the token's is
        ("k2", OTHER_SECRET, "k2", SECRET, None),
        ("k2", OTHER_SECRET, "k2", OTHER_SECRET, None),
        ("k2", OTHER_SECRET, "k2", THIRD_SECRET, "signature"),
        ("k2", OTHER_SECRET, "k1", OTHER_SECRET, None),
        ("k2", OTHER_SECRET, "k1", SECRET, None),
        ("k2", OTHER_SECRET, "k1", THIRD_SECRET, "signature"),
        # without a previous secret there is one key, and one kid
        ("k2", None, "k2", SECRET, None),
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
    """It is a hint: a service may restart with a new kid before or after its secret changes."""
    settings = Settings(secret=SECRET, key_id=own_kid, previous_secret=previous)
    header = {"alg": "HS256"} if kid is None else {"alg": "HS256", "kid": kid}
    token = forge(claims(), header=header, secret=secret)
    assert reason(TokenVerifier(settings, clock=clock), token) == expected


# The environment


def test_without_a_secret_there_is_no_verifier() -> None:
    """A server that could verify nothing fails when it starts."""
    with pytest.raises(SettingsError, match="MCP_AUTH_SECRET"):
        TokenVerifier.from_env()
    with pytest.raises(SettingsError, match=r"Settings\.secret"):
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
    """Construction raises an error that names the variable."""
    if variable != "MCP_AUTH_SECRET_FILE":
        monkeypatch.setenv("MCP_AUTH_SECRET", SECRET)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        TokenVerifier.from_env()


def test_the_environment_is_followed(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """A secret that is unset, wrong or set again takes effect; without one all is refused."""
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
    """Construction raises an error that names the argument."""
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        TokenVerifier(Settings(secret=SECRET), **wrong)


def test_the_current_secret_is_read_before_the_previous_one(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation between the two reads: the secret that was current stays accepted."""
    current, previous = tmp_path / "current", tmp_path / "previous"
    write(previous, THIRD_SECRET)
    write(current, SECRET)
    verifier = TokenVerifier(
        Settings(secret_file=current, previous_secret_file=previous), clock=clock
    )
    read = WatchedFile.read

    def rotating(self: WatchedFile[Any], *args: Any) -> Any:
        found = read(self, *args)
        if str(current) in found[0].source:
            write(previous, SECRET)
            write(current, OTHER_SECRET)
        return found

    monkeypatch.setattr(WatchedFile, "read", rotating)
    clock.advance(1)
    assert reason(verifier, forge(claims())) is None
    clock.advance(1)
    assert reason(verifier, forge(claims())) is None
    assert reason(verifier, forge(claims(), secret=OTHER_SECRET)) is None


# Log and counts


def test_refusals_are_counted_and_their_log_is_throttled(
    settings: Settings, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One line per reason and minute, with the number since the last one; no token, no claim."""
    verifier = TokenVerifier(settings, clock=clock)
    expired = forge(claims(exp=NOW - 1, sub="very-private-subject"))
    for _ in range(1000):
        reason(verifier, expired)
        reason(verifier, "x.y.z")
    for values in ([], ["Basic dXNlcjpwYXNz"]):
        verification_of(verifier).check_authorization(values)
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
    """Not in the error, and not in a traceback that prints the locals of this package."""
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


def test_an_unexpected_error_is_a_refusal(
    settings: Settings,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It lets nobody in and does not propagate; one warning names the type of the error."""
    caplog.set_level(logging.WARNING, "manor_mcp_interceptors")
    verifier = TokenVerifier(settings, clock=clock)

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(f"{VERIFICATION}.verify_claims", broken)
    assert reason(verifier, forge(claims())) == "internal"
    monkeypatch.setattr(KeySource, "verification_keys", broken)
    clock.advance(1)
    assert reason(verifier, forge(claims())) == "internal"
    assert caplog.messages == [
        "MCP auth refused a call: internal: ZeroDivisionError (1 since the last such line)"
    ]


def test_a_warning_about_the_secret_is_logged_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A short secret works; the warning is not logged again at each recheck."""
    verifier = TokenVerifier(Settings(secret="short"), clock=clock)
    for _ in range(3):
        clock.advance(1)
        assert reason(verifier, forge(claims(), secret="short")) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "is 5 bytes long" in caplog.records[0].getMessage()


def test_threads_share_a_verifier(tmp_path: Path) -> None:
    """Eight threads while the secret rotates with overlap: no refusal, no error."""
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
