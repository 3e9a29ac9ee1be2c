"""The decision and its lease, under a clock that stands still."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from manor_mcp_interceptors import HttpxAuth, MCPTokenProvider, Outcome, Settings
from manor_mcp_interceptors import provider as provider_module
from manor_mcp_interceptors._decision import leased_provider, token_cache
from manor_mcp_interceptors._decision.leased_provider import LeasedProvider
from manor_mcp_interceptors._keys.tokens import AccessToken, mint
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate, legacy_check, signed_with
from tests.support.eventually import eventually


class CountingMint:
    """Mints as the real one does, counts, and can be told to fail."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None

    def __call__(self, *args: Any) -> AccessToken:
        self.count += 1
        if self.error is not None:
            raise self.error
        return mint(*args)


@pytest.fixture
def mints(monkeypatch: pytest.MonkeyPatch) -> CountingMint:
    counting = CountingMint()
    monkeypatch.setattr(token_cache, "mint", counting)
    return counting


def make(clock: FakeClock, **fields: Any) -> MCPTokenProvider:
    return MCPTokenProvider(Settings(secret=SECRET, **fields), gate=StaticGate(), clock=clock)


def claims_of(token: str | None) -> dict[str, Any]:
    assert token is not None
    return jwt.decode(token, options={"verify_signature": False})


def test_a_token_holds_exactly_the_five_claims(clock: FakeClock) -> None:
    """Whole seconds; `iat` set back by the clock skew; `exp` a lifetime later."""
    token = make(clock, issuer="i", audience="a", subject="s").token()
    issued = 1_800_000_000 - 5
    expected = {"iss": "i", "aud": "a", "sub": "s", "iat": issued, "exp": issued + 3600}
    assert claims_of(token) == expected
    assert token is not None
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    keyed = make(clock, key_id="2026-11").token()
    assert keyed is not None
    assert jwt.get_unverified_header(keyed) == {"alg": "HS256", "typ": "JWT", "kid": "2026-11"}


def test_the_check_that_services_run_today_accepts_it(env_on: None) -> None:
    """``jwt.decode(token, secret, algorithms=["HS256"], audience=...)``, as it stands."""
    token = MCPTokenProvider.get_token()
    assert token is not None
    assert legacy_check(token)["iss"] == "manor-internal"


@pytest.mark.parametrize(("lifetime", "skew"), [(3600, 5), (30, 3), (9, 0), (1, 0)])
def test_the_skew_is_at_most_a_tenth_of_the_lifetime(
    clock: FakeClock, lifetime: int, skew: int
) -> None:
    """A short-lived token must not lose its life to a clock that may be behind."""
    token = make(clock, ttl_seconds=lifetime, margin_seconds=0).token()
    assert claims_of(token)["iat"] == 1_800_000_000 - skew


def test_a_fresh_token_is_reused_and_a_stale_one_renewed(
    clock: FakeClock, mints: CountingMint
) -> None:
    """Until `exp` less the margin, and not a moment longer."""
    provider = make(clock)
    first = provider.token()
    clock.advance(3600 - 30 - 5 - 0.25 - 0.01)
    assert provider.token() == first
    clock.advance(0.01)
    assert provider.token() != first
    assert mints.count == 2


def test_within_a_lease_nothing_is_looked_at(clock: FakeClock) -> None:
    """Neither the flag nor the settings, whether the answer was yes or no."""
    gate = StaticGate()
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=gate, clock=clock)
    for on in (True, False):
        gate.on = on
        clock.advance(1)
        gate.asked.clear()
        answers = {provider.token() is not None for _ in range(100)}
        assert answers == {on}
        assert len(gate.asked) == 1


def test_a_recheck_of_zero_asks_at_every_call(clock: FakeClock, mints: CountingMint) -> None:
    """And still mints once."""
    gate = StaticGate()
    settings = Settings(secret=SECRET, recheck_seconds=0)
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    assert len({provider.token() for _ in range(10)}) == 1
    assert (len(gate.asked), mints.count) == (10, 1)


@pytest.mark.parametrize("change", ["secret", "audience", "issuer", "subject", "ttl_seconds"])
def test_a_changed_setting_takes_effect_within_the_recheck_interval(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, env_on: None, change: str
) -> None:
    """The environment is looked at anew when the lease ends."""
    provider = MCPTokenProvider(gate=StaticGate(), clock=clock)
    before = provider.token()
    value = {"secret": OTHER_SECRET, "ttl_seconds": "120"}.get(change, "changed")
    monkeypatch.setenv(f"MCP_AUTH_{change.upper()}", value)
    clock.advance(0.99)
    assert provider.token() == before
    clock.advance(0.01)
    after = provider.token()
    assert after is not None
    assert after != before
    if change == "secret":
        assert signed_with(after, OTHER_SECRET)


def test_a_setting_that_no_token_holds_mints_none(
    clock: FakeClock, mints: CountingMint, monkeypatch: pytest.MonkeyPatch, env_on: None
) -> None:
    """A longer recheck interval is no reason for a new token."""
    provider = MCPTokenProvider(gate=StaticGate(), clock=clock)
    first = provider.token()
    monkeypatch.setenv("MCP_AUTH_RECHECK_SECONDS", "2")
    clock.advance(1)
    assert provider.token() == first
    assert mints.count == 1


def test_a_margin_that_swallows_the_lifetime_is_no_margin(
    clock: FakeClock, mints: CountingMint, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is used until it expires, with one warning, not minted at every call."""
    provider = make(clock, ttl_seconds=20, margin_seconds=20)
    for _ in range(17):
        provider.token()
        clock.advance(1)
    assert mints.count == 1
    assert [r.levelname for r in caplog.records if "MARGIN" in r.message] == ["WARNING"]


@pytest.mark.parametrize(("lifetime", "margin"), [(35, 32), (3, 1), (2, 1), (50, 49), (10, 9)])
def test_no_token_is_stale_at_birth(
    clock: FakeClock, mints: CountingMint, lifetime: int, margin: int
) -> None:
    """Skew and margin together never ask for a mint at each call."""
    clock.wall = 1_800_000_000.999
    provider = make(clock, ttl_seconds=lifetime, margin_seconds=margin, recheck_seconds=0)
    for _ in range(10):
        assert provider.token() is not None
    assert mints.count == 1


def test_a_clock_set_back_makes_the_token_stale(clock: FakeClock, mints: CountingMint) -> None:
    """A token from the future is refused by every verifier."""
    provider = make(clock)
    provider.token()
    clock.step_wall(-3600)
    clock.advance(1)
    assert claims_of(provider.token())["iat"] == int(clock.wall) - 5
    assert mints.count == 2


def test_a_clock_set_back_does_not_lengthen_a_life(clock: FakeClock, mints: CountingMint) -> None:
    """Half an hour passes, the wall clock is set back by a quarter: the rest is a half."""
    provider = make(clock)
    provider.token()
    clock.advance(1800)
    clock.step_wall(-900)
    provider.token()
    clock.advance(1800 - 35)
    provider.token()
    assert mints.count == 2


def test_a_suspend_is_noticed_within_the_recheck_interval(clock: FakeClock) -> None:
    """The monotonic clock stood still; the wall clock tells."""
    provider = make(clock)
    provider.token()
    clock.step_wall(7200)
    clock.advance(1)
    assert claims_of(provider.token())["exp"] > clock.wall


def test_a_failed_refresh_keeps_the_unexpired_token(
    clock: FakeClock, mints: CountingMint, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so once; when the token expires, there is none."""
    provider = make(clock)
    first = provider.token()
    mints.error = RuntimeError("boom")
    clock.advance(3580)
    for _ in range(5):
        assert provider.token() == first
        clock.advance(1)
    assert len([r for r in caplog.records if "the unexpired token goes on" in r.message]) == 1
    clock.advance(20)
    assert provider.token() is None
    assert provider.status().outcome is Outcome.SIGNING_FAILED


def test_a_refused_token_is_renewed_once_per_margin(clock: FakeClock, mints: CountingMint) -> None:
    """A server that refuses everything cannot make a client mint at each call."""
    provider = make(clock)
    first = provider.token()
    assert first is not None
    for _ in range(5):
        provider.invalidate(first)
        assert provider.token() == first
        clock.advance(1)
    clock.advance(25)
    provider.invalidate(first)
    second = provider.token()
    assert second not in (None, first)
    provider.invalidate(first)  # a late answer to an old call: renewed already
    assert provider.token() == second
    assert mints.count == 2


def test_a_refused_token_is_renewed_at_once_when_the_secret_has_changed(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, env_on: None
) -> None:
    """The refusal ends the lease; the rotation is seen before the recheck."""
    provider = MCPTokenProvider(gate=StaticGate(), clock=clock)
    first = provider.token()
    assert first is not None
    monkeypatch.setenv("MCP_AUTH_SECRET", OTHER_SECRET)
    provider.invalidate(first)
    second = provider.token()
    assert second is not None
    assert signed_with(second, OTHER_SECRET)


def test_two_hundred_threads_mint_one_token(clock: FakeClock, mints: CountingMint) -> None:
    """They meet an expired token behind a barrier, and nobody gets None."""
    provider = make(clock)
    expired = provider.token()
    clock.advance(4000)
    barrier = threading.Barrier(200)
    got: list[str | None] = []

    def call() -> None:
        barrier.wait()
        got.append(provider.token())

    threads = [threading.Thread(target=call) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 200
    assert len(set(got)) == 1
    assert got[0] not in (None, expired)
    assert mints.count == 2


def test_an_expired_token_is_not_handed_out_beside_its_successor(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the moment between the mint and its publication, either: no token, or the new one."""
    provider = make(clock)
    expired = provider.token()
    clock.advance(4000)
    minted, release = threading.Event(), threading.Event()
    publish = LeasedProvider._publish

    def slow(*args: Any, **options: Any) -> None:
        minted.set()
        assert release.wait(30)
        publish(*args, **options)

    monkeypatch.setattr(LeasedProvider, "_publish", slow)
    monkeypatch.setattr(leased_provider, "FOLLOW_SECONDS", 0.01)
    leader = threading.Thread(target=provider.token)
    leader.start()
    try:
        assert minted.wait(30)
        assert provider.token() is None
    finally:
        release.set()
        leader.join()
    assert provider.token() not in (None, expired)


def test_while_one_thread_mints_the_others_go_on(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The still-valid token serves them; nobody waits for the mint."""
    provider = make(clock)
    first = provider.token()
    clock.advance(3590)
    minting, release = threading.Event(), threading.Event()

    def slow(*args: Any) -> AccessToken:
        minting.set()
        assert release.wait(30)
        return mint(*args)

    monkeypatch.setattr(token_cache, "mint", slow)
    renewed: list[str | None] = []
    minter = threading.Thread(target=lambda: renewed.append(provider.token()))
    minter.start()
    assert minting.wait(30)
    assert [provider.token() for _ in range(10)] == [first] * 10
    release.set()
    minter.join()
    assert renewed[0] not in (None, first)
    assert provider.token() == renewed[0]


@pytest.fixture
def held_mint(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Another thread's mint, which takes until this is set."""
    release = threading.Event()

    def slow(*args: Any) -> AccessToken:
        assert release.wait(30)
        return mint(*args)

    monkeypatch.setattr(token_cache, "mint", slow)
    yield release
    release.set()


def test_an_event_loop_goes_on_while_another_thread_decides(
    clock: FakeClock, held_mint: threading.Event
) -> None:
    """A coroutine without a token waits for it, and holds up nobody."""
    provider = make(clock)
    leader = threading.Thread(target=provider.token)
    leader.start()
    assert eventually(lambda: provider._flight is not None)

    async def main() -> str | None:
        follower = asyncio.create_task(provider.token_async())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not follower.done()
        held_mint.set()
        return await follower

    assert asyncio.run(main()) is not None
    leader.join()


def test_a_synchronous_call_on_an_event_loop_hardly_waits(
    clock: FakeClock, held_mint: threading.Event
) -> None:
    """Nobody else on that loop could go on meanwhile."""
    provider = make(clock)
    leader = threading.Thread(target=provider.token)
    leader.start()
    assert eventually(lambda: provider._flight is not None)

    async def main() -> str | None:
        return provider.token()

    began = time.monotonic()
    assert asyncio.run(main()) is None
    assert time.monotonic() - began < leased_provider.FOLLOW_SECONDS / 2
    held_mint.set()
    leader.join()
    assert provider.token() is not None


def test_a_slow_log_handler_holds_up_no_other_call(clock: FakeClock) -> None:
    """What was decided is there before it is announced."""
    provider = make(clock)
    saying, release = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            saying.set()
            assert release.wait(30)

    handler, logger = Slow(logging.INFO), logging.getLogger("manor_mcp_interceptors")
    logger.addHandler(handler)
    leader = threading.Thread(target=provider.token)
    try:
        leader.start()
        assert saying.wait(30)
        clock.advance(1)  # the lease ends: the next call decides anew, and has nothing to say
        assert provider.token() is not None
        clock.advance(3600)
        assert provider.token() is not None
    finally:
        release.set()
        logger.removeHandler(handler)
        leader.join()


def test_outcomes_are_logged_when_they_change(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once each, with no token and no secret in a line."""
    caplog.set_level(logging.INFO)
    gate = StaticGate()
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=gate, clock=clock)
    for on in (True, True, False, False, True):
        gate.on = on
        clock.advance(1)
        provider.token()
    words = [record.getMessage().split(":")[0] for record in caplog.records]
    assert words == ["MCP auth ok", "MCP auth flag_off", "MCP auth ok"]
    assert SECRET not in caplog.text
    assert "eyJ" not in caplog.text


def test_a_log_handler_may_make_a_call(clock: FakeClock) -> None:
    """In the middle of a decision, on its thread: it goes without a token, and waits for none."""
    provider = make(clock, recheck_seconds=0)
    got: list[str | None] = []

    class Calling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(got) < 5:
                got.append(provider.token())

    logger, handler = logging.getLogger("manor_mcp_interceptors"), Calling()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    caller = threading.Thread(target=provider.token, daemon=True)
    try:
        caller.start()
        caller.join(4)  # less than a follower waits
        assert not caller.is_alive()
        assert got
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert provider.token() is not None


def test_a_gate_may_make_a_call_while_it_is_configured() -> None:
    """No lock is held while the application's code runs, and another thread may call as well."""

    class Watching(StaticGate):
        def watch(self, notify: object) -> None:
            caller = threading.Thread(target=MCPTokenProvider.get_token, daemon=True)
            caller.start()
            caller.join(4)
            done.append(not caller.is_alive())

    done: list[bool] = []
    MCPTokenProvider.configure(gate=Watching())
    assert done == [True]


def test_what_is_configured_while_an_instance_is_made_counts(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The instance is made anew, by the new set-up."""
    made = provider_module._make

    def make(*args: Any) -> MCPTokenProvider:
        monkeypatch.undo()
        MCPTokenProvider.configure(settings=settings, gate=StaticGate())
        return made(*args)

    monkeypatch.setattr(provider_module, "_make", make)
    assert MCPTokenProvider.get_instance().token() is not None


def test_an_audience_of_ones_own_provider_has_one_token(
    clock: FakeClock, mints: CountingMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever adapters ask for it; the oldest audience makes room."""
    monkeypatch.setattr(provider_module, "MAX_AUDIENCES", 3)
    provider = make(clock)
    adapters = [HttpxAuth(provider=provider, audience="other-mcp") for _ in range(5)]
    assert len({adapter._source.decision().token for adapter in adapters}) == 1
    assert mints.count == 1
    other = provider.for_audience("other-mcp")
    assert other.for_audience("other-mcp") is other
    for number in range(10):
        provider.for_audience(str(number))
    assert len(provider._setup.by_audience) == 3
    assert provider.for_audience("other-mcp") is not other


def test_another_audience_of_the_process_wide_provider_is_process_wide(env_on: None) -> None:
    """One token for `get_token` and for an adapter that was given the provider."""
    provider = MCPTokenProvider.get_instance()
    assert provider.for_audience("other-mcp") is MCPTokenProvider.get_instance("other-mcp")


def test_a_provider_goes_with_those_made_from_it(settings: Settings) -> None:
    """Nothing else holds them."""
    provider = MCPTokenProvider(settings, gate=StaticGate())
    gone = [weakref.ref(provider.for_audience("other-mcp")), weakref.ref(provider)]
    del provider
    gc.collect()
    assert [each() for each in gone] == [None, None]


def test_a_provider_that_has_decided_nothing_says_so(clock: FakeClock) -> None:
    """Not that signing has failed; the end of a lease is no decision either."""
    provider = make(clock)
    assert repr(provider) == "<MCPTokenProvider last outcome: none yet>"
    provider.end_lease()
    assert repr(provider) == "<MCPTokenProvider last outcome: none yet>"
    provider.token()
    assert repr(provider) == "<MCPTokenProvider last outcome: ok>"


def test_an_event_in_the_middle_of_a_decision_ends_its_lease(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made from what was true before; the clock stands still, so nothing else ends it."""
    gate = StaticGate()
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=gate, clock=clock)

    def turned_off_meanwhile(*args: Any) -> AccessToken:
        gate.on = False
        provider._setup.flags.changed()
        return mint(*args)

    monkeypatch.setattr(token_cache, "mint", turned_off_meanwhile)
    assert provider.token() is not None
    assert provider.token() is None


def test_a_decision_serves_on_for_a_second_at_most(clock: FakeClock) -> None:
    """While another thread renews it, however long its lease was."""
    gate = StaticGate()
    settings = Settings(secret=SECRET, recheck_seconds=100)
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    token = provider.token()
    gate.on = False
    provider._renewing = True  # as the other thread notes it
    clock.advance(100.5)
    assert provider.token() == token
    clock.advance(0.5)
    assert provider.token() is None


def test_without_a_margin_a_refused_token_is_renewed_after_a_second(
    clock: FakeClock, mints: CountingMint
) -> None:
    """Before, the new one would be the same: `iat` is in whole seconds."""
    provider = make(clock, margin_seconds=0, recheck_seconds=100)
    first = provider.token()
    assert first is not None
    for _ in range(3):
        provider.invalidate(first)
        assert provider.token() == first
        clock.advance(0.3)
    assert mints.count == 1
    clock.advance(0.2)
    provider.invalidate(first)
    assert provider.token() != first
