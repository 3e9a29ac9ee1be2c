"""A token file: the platform's token is sent as it is, as long as it lives and fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Outcome, Settings
from manor_mcp_interceptors.outcomes import TokenStatus
from tests.soak.mounted import Mount
from tests.support import SECRET, FakeClock, StaticGate
from tests.support.issuers import cluster, write_in_place

ISSUER = cluster()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "token"


def made(file: Path, clock: FakeClock, **settings: object) -> MCPTokenProvider:
    given = Settings(token_file=file, **settings)  # type: ignore[arg-type]
    return MCPTokenProvider(given, gate=StaticGate(), clock=clock)


def token(clock: FakeClock, lifetime: float = 600) -> str:
    return ISSUER.token(exp=int(clock.time() + lifetime))


def refused(provider: MCPTokenProvider) -> TokenStatus:
    assert provider.token() is None
    return provider.status()


def test_the_token_of_the_file_is_sent_as_it_is(file: Path, clock: FakeClock) -> None:
    """With its source and its lifetime in the status; nothing is signed."""
    text = token(clock)
    file.write_text(f"{text}\n")
    provider = made(file, clock)
    assert provider.headers() == {"Authorization": f"Bearer {text}"}
    status = provider.status()
    assert (status.outcome, status.seconds_to_expiry) == (Outcome.OK, 599.75)
    assert status.secret_source == f"Settings.token_file ({file})"
    assert provider.stats().mints == 1


def test_a_swapped_file_is_sent_after_the_recheck_interval(
    tmp_path: Path, clock: FakeClock
) -> None:
    """As Kubernetes swaps it, behind the link ``..data``."""
    mount = Mount(tmp_path / "mounted")
    first, second = token(clock), token(clock, 700)
    mount.swap(token=first)
    provider = made(mount.path("token"), clock)
    assert provider.token() == first
    mount.swap(token=second)
    clock.advance(0.99)
    assert provider.token() == first
    clock.advance(0.02)
    assert provider.token() == second


def test_half_of_a_new_token_leaves_the_last_one_until_its_exp(
    file: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so; at `exp` there is none, and the reason names both facts."""
    old, new = token(clock, 60), token(clock, 600)
    file.write_text(old)
    provider = made(file, clock)
    assert provider.token() == old
    file.write_text(new[: len(new) // 2])
    for _ in range(29):
        clock.advance(2)
        assert provider.token() == old
    lines = [r.getMessage() for r in caplog.records if "holds a part of a JWT" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].endswith("the last good one stays in use")
    clock.advance(2)
    status = refused(provider)
    assert status.outcome is Outcome.INVALID_CONFIG
    assert f"Settings.token_file ({file}): the token expired 0 s ago" in status.reason
    assert "holds a part of a JWT" in status.reason
    file.write_text(new)
    clock.advance(1)
    assert provider.token() == new


def test_a_token_is_never_sent_at_its_exp_by_either_clock(file: Path, clock: FakeClock) -> None:
    """Within the margin it is still sent; a wall clock that is set back does not prolong it."""
    file.write_text(token(clock, 60))
    provider = made(file, clock)
    clock.advance(59.5)
    assert provider.token() is not None
    clock.step_wall(-3600)
    assert provider.token() is not None
    clock.advance(0.5)
    status = refused(provider)
    assert (status.outcome, status.seconds_to_expiry) == (Outcome.INVALID_CONFIG, None)


def test_a_clock_that_was_ahead_at_the_start_heals(file: Path, clock: FakeClock) -> None:
    """A token that has never been in use is judged again by the clock as it is now."""
    text = token(clock, 60)
    file.write_text(text)
    clock.step_wall(3600)
    provider = made(file, clock)
    assert "expired 3540 s ago; its aud is 'service-search-mcp'" in refused(provider).reason
    clock.step_wall(-3600)
    assert provider.token() == text


def test_a_token_for_another_audience_is_not_sent(file: Path, clock: FakeClock) -> None:
    """Nor for another one of the same file, by an adapter with ``audience=``."""
    text = token(clock)
    file.write_text(text)
    provider = made(file, clock)
    status = refused(provider.for_audience("other-mcp"))
    assert status.outcome is Outcome.INVALID_CONFIG
    assert "not for the audience 'other-mcp'; its aud is 'service-search-mcp'" in status.reason
    assert provider.token() == text


@pytest.mark.parametrize(
    ("content", "outcome", "problem"),
    [
        ("", Outcome.NOT_CONFIGURED, "is empty"),
        ("two words", Outcome.INVALID_CONFIG, "does not hold a token"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJ", Outcome.INVALID_CONFIG, "holds a part of a JWT only"),
    ],
)
def test_a_file_without_a_token_is_named(
    file: Path, clock: FakeClock, content: str, outcome: Outcome, problem: str
) -> None:
    """With its variable and its path."""
    file.write_text(content)
    status = refused(made(file, clock))
    assert status.outcome is outcome
    assert status.reason.startswith(f"Settings.token_file: {file} {problem}")


def test_a_file_that_holds_no_jwt_is_sent_with_a_warning(
    file: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be an opaque token, or the file of a secret that was named by mistake."""
    file.write_text(SECRET)
    assert made(file, clock).token() == SECRET
    assert f"Settings.token_file ({file}) holds no JWT" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("other", ["secret", "secret_file", "private_key_file"])
def test_a_token_file_beside_a_key_is_refused(file: Path, clock: FakeClock, other: str) -> None:
    """Which one was meant cannot be known; both are named."""
    file.write_text(token(clock))
    status = refused(made(file, clock, **{other: SECRET}))
    assert status.outcome is Outcome.INVALID_CONFIG
    assert f"Settings.{other} and Settings.token_file are both set" in status.reason


def test_a_refused_token_is_replaced_as_soon_as_the_file_has_another(
    file: Path, clock: FakeClock
) -> None:
    """At the next refusal, within the recheck interval too; the same one stays in use."""
    first, second = token(clock), token(clock, 700)
    file.write_text(first)
    gate = StaticGate()
    provider = MCPTokenProvider(
        Settings(token_file=file, recheck_seconds=60), gate=gate, clock=clock
    )
    assert provider.token() == first
    for _ in range(100):
        provider.invalidate(first)
        assert provider.token() == first
    assert len(gate.asked) == 2
    write_in_place(file, second)
    provider.invalidate(first)
    assert provider.token() == second


def test_a_server_that_refuses_a_given_token_for_long_costs_a_look_for_each_margin(
    file: Path, clock: FakeClock
) -> None:
    """Beside those of the rechecks: none for each call."""
    file.write_text(token(clock, 6000))
    gate = StaticGate()
    settings = Settings(token_file=file, recheck_seconds=1000)
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    for _ in range(610):
        clock.advance(0.1)
        provider.invalidate(str(provider.token()))
    assert len(gate.asked) <= 2 + 2
