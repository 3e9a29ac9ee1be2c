"""Libraries that freeze time: freezegun takes both clocks along, time-machine the wall clock."""

from __future__ import annotations

import time

import jwt
import pytest
import time_machine
from freezegun import freeze_time

from manor_mcp_interceptors import MCPTokenProvider, get_token
from manor_mcp_interceptors.testing import AuthServer
from tests.support.http_call import get

LONG_AGO = "2020-02-29T12:00:00Z"
FAR_OFF = "2040-02-29T12:00:00Z"


def issued_at(token: str | None) -> int:
    assert token is not None
    claims = jwt.decode(token, options={"verify_signature": False})
    return int(claims["iat"]) + 5  # the clock skew


@pytest.mark.parametrize("moment", [LONG_AGO, FAR_OFF])
def test_under_freezegun_a_token_is_of_the_frozen_time(env_on: None, moment: str) -> None:
    """It lives and dies by it, forwards and backwards, with the default recheck interval."""
    before = get_token()
    with freeze_time(moment) as frozen:
        first = get_token()
        assert issued_at(first) == time.time()
        frozen.tick(3600 - 30 - 5 - 1)
        assert get_token() == first
        frozen.tick(1)
        assert issued_at(get_token()) == time.time()
        frozen.tick(-7200)
        assert issued_at(get_token()) == time.time()
    after = get_token()
    assert issued_at(after) == pytest.approx(time.time(), abs=2)
    assert before is not None


@pytest.mark.parametrize("moment", [LONG_AGO, FAR_OFF])
def test_a_refusal_does_not_outlive_freezegun(
    env_on: None, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Nor does a "no": its lease ends with the frozen time."""
    with freeze_time(moment), monkeypatch.context() as patch:
        patch.delenv("MCP_AUTH_SECRET")
        assert get_token() is None
    assert get_token() is not None


@pytest.mark.parametrize("moment", [LONG_AGO, FAR_OFF])
def test_under_time_machine_a_token_is_of_the_travelled_time(
    mcp_auth_on: MCPTokenProvider, moment: str
) -> None:
    """With a recheck interval of zero, as `mcp_auth_on` sets it: the monotonic clock goes on."""
    with time_machine.travel(moment, tick=False) as traveller:
        first = get_token()
        assert issued_at(first) == time.time()
        traveller.shift(3600 - 30 - 5 - 1)
        assert get_token() == first
        traveller.shift(1)
        assert issued_at(get_token()) == time.time()
        traveller.shift(-7200)
        assert issued_at(get_token()) == time.time()
    assert issued_at(get_token()) == pytest.approx(time.time(), abs=2)


def test_the_server_judges_by_the_frozen_time(
    mcp_auth_on: MCPTokenProvider, mcp_auth_server: AuthServer
) -> None:
    """On its own threads, too, and under either library."""
    with freeze_time(LONG_AGO) as frozen:
        token = mcp_auth_on.token()
        assert get(mcp_auth_server, token).status == 200
        frozen.tick(3600)
        assert get(mcp_auth_server, token).status == 401
    with time_machine.travel(FAR_OFF) as traveller:
        token = mcp_auth_on.token()
        assert get(mcp_auth_server, token).status == 200
        traveller.shift(3600)
        assert get(mcp_auth_server, token).status == 401
    assert [r.reason for r in mcp_auth_server.requests] == [None, "expired", None, "expired"]
