"""The decision and its lease, under a clock that stands still."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import jwt
import pytest

from manor_mcp_interceptors import (
    HttpxAuth,
    MCPTokenProvider,
    Outcome,
    Settings,
    diagnose,
    get_auth_headers,
    get_token,
    is_enabled,
)
from manor_mcp_interceptors import provider as provider_module
from manor_mcp_interceptors._decision import lease, token_cache
from manor_mcp_interceptors._keys.tokens import AccessToken, mint
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate, legacy_check, signed_with


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


class HeldMint:
    """Mints as the real one does once it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()

    def __call__(self, *args: Any) -> AccessToken:
        self.begun.set()
        assert self.release.wait(30)
        return mint(*args)

    @contextmanager
    def by_another_thread(self, provider: MCPTokenProvider) -> Iterator[None]:
        """Run while another thread is in the middle of a mint."""
        self.begun.clear()
        self.release.clear()
        thread = threading.Thread(target=provider.token)
        thread.start()
        try:
            assert self.begun.wait(30)
            yield
        finally:
            self.release.set()
            thread.join()


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
    """The environment is read again when the lease ends."""
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
    assert len([r for r in caplog.records if "the unexpired token stays in use" in r.message]) == 1
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


@pytest.fixture
def held_mint(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldMint]:
    """A mint that takes until it is released."""
    held = HeldMint()
    monkeypatch.setattr(token_cache, "mint", held)
    yield held
    held.release.set()


def test_an_expired_token_is_not_handed_out_while_another_thread_mints(
    clock: FakeClock, held_mint: HeldMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call waits for a bounded time, and then has no token."""
    held_mint.release.set()
    provider = make(clock)
    expired = provider.token()
    clock.advance(4000)
    monkeypatch.setattr(lease, "WAIT_SECONDS", 0.01)
    with held_mint.by_another_thread(provider):
        assert provider.token() is None
    assert provider.token() not in (None, expired)


def test_while_one_thread_mints_the_others_use_the_unexpired_token(
    clock: FakeClock, held_mint: HeldMint
) -> None:
    """Nobody waits for the mint."""
    held_mint.release.set()
    provider = make(clock)
    first = provider.token()
    clock.advance(3590)
    with held_mint.by_another_thread(provider):
        assert [provider.token() for _ in range(10)] == [first] * 10
    assert provider.token() not in (None, first)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_event_loop_hardly_waits_for_another_thread_that_mints(
    clock: FakeClock, held_mint: HeldMint, is_async: bool
) -> None:
    """Nobody else on that loop could continue meanwhile."""
    provider = make(clock)

    async def main() -> str | None:
        return await provider.token_async() if is_async else provider.token()

    with held_mint.by_another_thread(provider):
        began = time.monotonic()
        assert asyncio.run(main()) is None
        assert time.monotonic() - began < lease.WAIT_SECONDS / 2
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
    """In the middle of a decision, on its thread."""
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
        caller.join(4)  # less than another thread would wait
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


def test_a_provider_follows_what_is_configured_later(settings: Settings) -> None:
    """It stays the same object, so adapters hold it, also one that made room for others."""
    provider = MCPTokenProvider.get_instance("other-mcp")
    assert provider.token() is None
    MCPTokenProvider.configure(settings=settings, gate=StaticGate())
    assert MCPTokenProvider.get_instance("other-mcp") is provider
    assert claims_of(provider.token())["aud"] == "other-mcp"
    MCPTokenProvider.reset()
    assert provider.token() is None


def test_an_audience_that_made_room_still_follows(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as an adapter holds its provider."""
    monkeypatch.setattr(provider_module, "MAX_AUDIENCES", 3)
    first = MCPTokenProvider.get_instance("first-mcp")
    for number in range(5):
        MCPTokenProvider.get_instance(f"{number}-mcp")
    assert MCPTokenProvider.get_instance("first-mcp") is not first
    MCPTokenProvider.configure(settings=settings, gate=StaticGate())
    assert first.token() is not None


def test_an_audience_of_an_independent_provider_has_one_token(
    clock: FakeClock, mints: CountingMint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever adapters ask for it; the oldest audience makes room."""
    monkeypatch.setattr(provider_module, "MAX_AUDIENCES", 3)
    provider = make(clock)
    for _ in range(5):
        request = httpx.Request("GET", "https://a.example")
        next(HttpxAuth(provider=provider, audience="other-mcp").sync_auth_flow(request))
        assert claims_of(request.headers["Authorization"].split()[1])["aud"] == "other-mcp"
    assert mints.count == 1
    other = provider.for_audience("other-mcp")
    assert other.for_audience("other-mcp") is other
    for number in range(10):
        provider.for_audience(str(number))
    assert provider.for_audience("other-mcp") is not other


def test_get_token_on_an_instance_is_its_own(clock: FakeClock, env_on: None) -> None:
    """On the class, it is the process-wide one's; a malformed audience is no token."""
    provider = make(clock, audience="mine")
    assert claims_of(provider.get_token())["aud"] == "mine"
    assert claims_of(provider.get_token("other"))["aud"] == "other"
    assert provider.get_auth_headers() == {"Authorization": f"Bearer {provider.token()}"}
    assert claims_of(MCPTokenProvider.get_token())["aud"] == "service-search-mcp"
    assert provider.get_token(" ") is None
    assert MCPTokenProvider.get_auth_headers(" ") == {}


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
    """Not that signing has failed."""
    provider = make(clock)
    assert repr(provider) == "<MCPTokenProvider last outcome: none yet>"
    provider.token()
    assert repr(provider) == "<MCPTokenProvider last outcome: ok>"


def test_an_event_in_the_middle_of_a_decision_ends_its_lease(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its inputs are old; the clock stands still, so nothing else ends it."""

    class Watched(StaticGate):
        def watch(self, notify: Callable[[], None]) -> None:
            self.notify = notify

    gate = Watched()
    provider = MCPTokenProvider(Settings(secret=SECRET), gate=gate, clock=clock)

    def turned_off_meanwhile(*args: Any) -> AccessToken:
        gate.on = False
        gate.notify()
        return mint(*args)

    monkeypatch.setattr(token_cache, "mint", turned_off_meanwhile)
    assert provider.token() is not None
    assert provider.token() is None


def test_the_grace_period_is_a_second_at_most(clock: FakeClock) -> None:
    """While another thread renews a decision, however long its lease was."""

    class Held(StaticGate):
        """Asked on the caller's thread, which it holds on another one than the test's."""

        def is_enabled(self, key: str, *, subject: str) -> bool:
            if threading.current_thread() is not threading.main_thread():
                asked.set()
                assert release.wait(30)
            return super().is_enabled(key, subject=subject)

    gate, asked, release = Held(), threading.Event(), threading.Event()
    settings = Settings(secret=SECRET, recheck_seconds=100)
    provider = MCPTokenProvider(settings, gate=gate, clock=clock)
    token = provider.token()
    gate.on = False
    clock.advance(100.5)
    other = threading.Thread(target=provider.token)
    other.start()
    try:
        assert asked.wait(30)
        assert provider.token() == token
        clock.advance(0.5)
        assert provider.token() is None
    finally:
        release.set()
        other.join()


def test_a_slow_log_handler_does_not_lengthen_a_lease(clock: FakeClock) -> None:
    """How long a token is fresh counts from the moment at which that was asked."""
    provider = make(clock, ttl_seconds=20, margin_seconds=0, recheck_seconds=100)

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            clock.advance(4)

    logger, handler = logging.getLogger("manor_mcp_interceptors"), Slow(logging.INFO)
    logger.addHandler(handler)
    try:
        for _ in range(20):
            given_at, token = clock.wall, provider.token()
            assert claims_of(token)["exp"] > given_at
            clock.advance(1)
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("monotonic_stands_still", [True, False])
@pytest.mark.parametrize("recheck", [1, 10_000])
def test_a_frozen_process_hands_out_no_expired_token(
    clock: FakeClock, monotonic_stands_still: bool, recheck: float
) -> None:
    """Not once: neither after a suspend, nor in AWS Lambda."""
    provider = make(clock, recheck_seconds=recheck)
    provider.token()
    if monotonic_stands_still:
        clock.step_wall(7200)
    else:
        clock.advance(7200)
    assert claims_of(provider.token())["exp"] > clock.wall


class RaisingClock(FakeClock):
    """Tells the time `good_for` times."""

    def __init__(self, good_for: int) -> None:
        super().__init__()
        self.left = good_for

    def time(self) -> float:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("boom")
        return super().time()


def every_way_to_ask(provider: MCPTokenProvider) -> None:
    for ask in (get_token, provider.token, provider.get_token):
        assert isinstance(ask(), (str, type(None)))
    for headers in (get_auth_headers, provider.headers, provider.get_auth_headers):
        assert isinstance(headers(), dict)
    assert isinstance(is_enabled(), bool)
    assert diagnose().outcome in Outcome
    assert provider.status().outcome in Outcome
    provider.invalidate(asyncio.run(provider.token_async()) or "")
    assert isinstance(asyncio.run(provider.headers_async()), dict)


HANDED_IN: dict[str, dict[str, Any]] = {
    **{f"a clock good for {n} answers": {"clock": RaisingClock(n)} for n in range(30)},
    "no clock": {"clock": object()},
    "no settings": {"settings": object()},
}


@pytest.mark.parametrize("name", HANDED_IN)
def test_whatever_is_handed_in_a_call_goes_on(caplog: pytest.LogCaptureFixture, name: str) -> None:
    """One barrier at the public functions, and a reason that is logged once."""
    good: dict[str, Any] = {"settings": Settings(secret=SECRET), "gate": StaticGate()}
    MCPTokenProvider.configure(**{**good, **HANDED_IN[name]})
    for _ in range(3):
        every_way_to_ask(MCPTokenProvider.get_instance())
    assert len([r for r in caplog.records if "deciding failed" in r.getMessage()]) <= 1


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
