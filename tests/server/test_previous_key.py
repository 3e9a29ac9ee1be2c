"""Which key a token came with: counted, and the callers that still use the previous one named."""

from __future__ import annotations

import pytest

from manor_mcp_interceptors import Settings, TokenVerifier
from tests.server.forging import claims, forge
from tests.support import OTHER_SECRET, SECRET, FakeClock


def make(clock: FakeClock, key_id: str | None = None) -> TokenVerifier:
    settings = Settings(secret=SECRET, key_id=key_id, previous_secret=OTHER_SECRET)
    return TokenVerifier(settings, clock=clock)


def still_signed(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log has said since the last time."""
    lines = [r.getMessage() for r in caplog.records if "previous secret:" in r.getMessage()]
    caplog.clear()
    return [line.partition("previous secret: ")[2] for line in lines]


@pytest.fixture(autouse=True)
def log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "manor_mcp_interceptors")


@pytest.mark.parametrize("key_id", [None, "k2"])
def test_tokens_are_counted_by_the_key_that_signed_them(
    clock: FakeClock, key_id: str | None
) -> None:
    """Remembered ones too: the number of the previous key says that a caller still uses it."""
    verifier = make(clock, key_id)
    for secret, times in ((SECRET, 3), (OTHER_SECRET, 2)):
        token = forge(claims(), secret=secret)
        for _ in range(times):
            verifier.verify(token)
    stats = verifier.stats()
    assert (stats.accepted, stats.remembered) == (2, 3)
    assert stats.by_key == {key_id or "current": 3, "previous": 2}


def test_the_callers_of_the_previous_key_are_named_once_a_minute(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """All that came in that minute, with remembered tokens too; then none: it is done."""
    verifier = make(clock)
    tokens = [forge(claims(sub=name), secret=OTHER_SECRET) for name in ("a", "b", "c")]
    for token in tokens:
        verifier.verify(token)
    verifier.verify(forge(claims(sub="new")))
    assert still_signed(caplog) == ["'a'"]
    for _ in range(59):
        clock.advance(1)
        verifier.verify(tokens[1])
    assert still_signed(caplog) == []
    clock.advance(1)
    verifier.verify(tokens[1])
    assert still_signed(caplog) == ["'b', 'c'"]
    clock.advance(60)
    verifier.verify(forge(claims(sub="new")))
    assert still_signed(caplog) == []


def test_the_line_is_bounded_and_nothing_can_be_injected(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers choose their subjects: a thousand of them, long ones, and ones with line ends."""
    verifier = make(clock)
    evil = "x\nMCP auth ok: '\u202e" + "y" * 1000
    for subject in ["first", evil, *(f"service-{number}" for number in range(1000))]:
        verifier.verify(forge(claims(sub=subject), secret=OTHER_SECRET))
    clock.advance(60)
    verifier.verify(forge(claims(sub="last"), secret=OTHER_SECRET))
    first, line = still_signed(caplog)
    assert first == "'first'"
    assert line.startswith("\"x\\nMCP auth ok: '\\u202e")
    assert line.endswith(", 'service-18', and others")
    assert line.isascii()
    assert len(line) < 20 * 100
