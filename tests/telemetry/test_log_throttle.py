"""Lines that are due: bounded in number and in memory."""

from __future__ import annotations

from manor_mcp_interceptors._telemetry.log import LogThrottle


def test_further_keys_are_logged_when_others_are_old() -> None:
    """So many keys in an interval; a key that has made room is a new one."""
    throttle = LogThrottle(every=60.0, capacity=2)
    assert [throttle.due(key, 0.0) for key in "abcab"] == [1, 1, 0, 0, 0]
    assert [throttle.due(key, 60.0) for key in "cdab"] == [1, 1, 0, 0]
    assert throttle.due("c", 120.0) == 1


def test_a_key_that_is_logged_once_keeps_its_place() -> None:
    """Without an interval that ends, none is forgotten."""
    throttle = LogThrottle(every=float("inf"), capacity=1)
    assert [throttle.due(key, now) for now in (0.0, 1e9) for key in "ab"] == [1, 0, 0, 0]
