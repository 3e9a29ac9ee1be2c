"""A token made elsewhere: what is taken as one, and what is read from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from manor_mcp_interceptors import SettingsError
from manor_mcp_interceptors._keys.given_token import GivenToken, parse_given
from manor_mcp_interceptors._keys.watched_file import NotUsableError
from tests.support.issuers import Issuer, cluster, spire

JWE = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..aXY.Y2lwaGVydGV4dA.dGFn"


def read(text: str) -> GivenToken:
    return parse_given(text, "VARIABLE (/path)")


def test_exp_and_aud_of_a_jwt_are_read() -> None:
    """`aud` may be a list, as that of Kubernetes is; the white space of a file is not a part."""
    token = cluster(exp=1_700_000_000.9).token(audience=["one", "two"])
    given = read(f"\ufeff {token}\r\n")
    assert (given.value, given.expires_at, given.audiences) == (
        token,
        1_700_000_000,
        ("one", "two"),
    )


@pytest.mark.parametrize("exp", [None, "soon", True, 1e300, 10**400])
def test_a_jwt_whose_exp_cannot_be_read_has_none(exp: object) -> None:
    """It is asked for again at each recheck, as an opaque one is; its `aud` still counts."""
    given = read(cluster(exp=exp).token())
    assert (given.expires_at, given.audiences) == (None, ("service-search-mcp",))


@pytest.mark.parametrize("text", ["s.Ab12-opaque~token+/=", "a.b.c", JWE])
def test_anything_else_in_visible_ascii_is_an_opaque_token(text: str) -> None:
    """Of Vault, of an OAuth server, or encrypted."""
    assert read(text) == GivenToken(text, "anywhere")


@pytest.mark.parametrize("text", ["a\nb", "a\r\nX-Admin: yes", "a b", "Bearer a", "tökén", "a\0b"])
def test_no_character_of_a_token_can_end_the_header(text: str) -> None:
    """What is neither visible nor ASCII is refused, inside as well; nothing of it is shown."""
    with pytest.raises(NotUsableError, match="does not hold a token") as caught:
        read(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize("make", [cluster, spire])
def test_no_part_of_a_jwt_is_a_token(make: Callable[[], Issuer]) -> None:
    """A file may be read while it is written: whatever has been written, it is not enough."""
    token = make().token()
    for end in range(1, len(token)):
        with pytest.raises(NotUsableError):
            read(token[:end])
    assert read(token).value == token


@pytest.mark.parametrize(
    ("audience", "shown"),
    [
        ("https://kubernetes.default.svc", "its aud is 'https://kubernetes.default.svc'"),
        (["one", "two"], "its aud is 'one', 'two'"),
        ("\nforged line", r"its aud is '\\nforged line'"),
        (None, "it has no aud"),
    ],
)
def test_a_token_for_others_is_refused_with_its_aud(audience: object, shown: str) -> None:
    """The message names the source, and shows nothing that could be a line of its own."""
    token = read(cluster().token(audience=audience))
    with pytest.raises(SettingsError, match=rf"VARIABLE \(/path\): .* 'mine'; {shown}$") as caught:
        token.check_audience("mine")
    assert token.value not in str(caught.value)
    assert caught.value.variable == "VARIABLE"
