"""Patterns of hosts."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from manor_mcp_interceptors import Settings, SettingsError
from manor_mcp_interceptors._hosts import compile_hosts, normalize_host

LABEL = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,10}[a-z0-9_])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
DOMAIN = NAME.filter(lambda name: not name.rpartition(".")[2].isdecimal())
PORT = st.integers(1, 65_535)


def allow(pattern: str, host: str, port: int = 443) -> bool:
    return compile_hosts((pattern,)).allow(normalize_host(host), port)


@given(NAME, PORT)
def test_a_host_allows_itself_on_any_port(name: str, port: int) -> None:
    """In any case, and with a final dot on either side."""
    assert allow(name, name.upper() + ".", port)
    assert allow(name.upper() + ".", name, port)


@given(NAME, PORT, PORT)
def test_a_port_binds(name: str, bound: int, port: int) -> None:
    """A pattern with a port allows that port and no other."""
    assert allow(f"{name}:{bound}", name, port) is (port == bound)


@given(NAME, NAME)
def test_a_host_allows_no_other(name: str, other: str) -> None:
    """Neither a name under it, nor one that begins or ends like it."""
    assume(name != other)
    assert not allow(name, other)
    for near in (f"{name}.{other}", f"{other}.{name}", f"{other}{name}", f"{name}{other}"):
        assert not allow(name, near)


@given(DOMAIN, NAME, NAME)
def test_a_suffix_allows_the_names_under_it(suffix: str, below: str, other: str) -> None:
    """Whole labels, not the suffix itself, and nothing that merely contains it."""
    pattern = f"*.{suffix}"
    assert allow(pattern, f"{below}.{suffix}")
    assert allow(pattern.upper(), f"{below}.{suffix}.".upper())
    assert not allow(pattern, suffix)
    assert not allow(pattern, f"{below}{suffix}") or f".{suffix}" in f"{below}{suffix}"
    assert not allow(pattern, f"{suffix}.{other}") or f"{suffix}.{other}".endswith(f".{suffix}")


@given(DOMAIN, NAME, PORT, PORT)
def test_a_port_binds_a_suffix(suffix: str, below: str, bound: int, port: int) -> None:
    """As it binds a host."""
    assert allow(f"*.{suffix}:{bound}", f"{below}.{suffix}", port) is (port == bound)


@given(DOMAIN, st.ip_addresses(v=4))
def test_a_suffix_allows_no_address(suffix: str, address: IPv4Address) -> None:
    """An address has no names under it."""
    assert not allow(f"*.{suffix}", str(address))


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), PORT)
def test_ipv6_is_compared_as_an_address(
    address: IPv6Address, other: IPv6Address, port: int
) -> None:
    """However it is written, with or without brackets."""
    for pattern in (str(address), f"[{address.exploded}]", f"[{address}]:{port}"):
        assert allow(pattern, address.exploded.upper(), port)
        assert allow(pattern, str(other), port) is (address == other)
    assert not allow(f"[{address}]:{port}", str(address), port % 65_535 + 1)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(pattern: str) -> None:
    """Never another error; and what is read is made of host names."""
    try:
        compiled = compile_hosts((pattern,))
    except ValueError:
        return
    names = [name for name, _ in compiled.hosts] + [name for name, _ in compiled.suffixes]
    assert all(re.fullmatch(r"[a-z0-9_.:-]+", name) for name in names)


@given(st.lists(NAME | DOMAIN.map("*.{}".format), min_size=1, max_size=5), NAME)
def test_a_list_allows_what_any_of_it_allows(patterns: list[str], host: str) -> None:
    """And the order does not matter."""
    for given_order in (patterns, patterns[::-1]):
        try:
            together = compile_hosts(tuple(given_order)).allow(host, 443)
        except ValueError:  # "*.1"
            return
        assert together is any(allow(pattern, host) for pattern in patterns)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        " ",
        ".",
        "*",
        "*.",
        "*.*.com",
        "a.*.com",
        "*a.com",
        "a..com",
        ".a.com",
        "-a.com",
        "a com",
        "a.com/",
        "a.com/path",
        "https://a.com",
        "user@a.com",
        "a.com:",
        "a.com:0",
        "a.com:65536",
        "a.com:http",
        "a.com:٣",
        "a.com:+1",
        "[::1",
        "::1]",
        "[::1]x",
        "[::g]",
        "[]",
        "*.[::1]",
        "*.0.0.1",
        "bücher.example",
        "%61.com",
        "a.com\n.evil.com",
        "a\\.com",
    ],
)
def test_a_pattern_of_another_form_is_refused(pattern: str) -> None:
    """At the construction of settings too, by name."""
    for patterns in ([pattern], ["fine.example", pattern], f"fine.example,{pattern}"):
        with pytest.raises(ValueError, match=r"is not a host such as mcp\.example\.com") as caught:
            compile_hosts(patterns)
        assert repr(pattern) in str(caught.value)
    with pytest.raises(SettingsError, match="MCP_AUTH_ALLOWED_HOSTS") as refused:
        Settings(allowed_hosts=("fine.example", pattern))
    assert refused.value.variable == "MCP_AUTH_ALLOWED_HOSTS"


@given(st.lists(NAME, min_size=1, max_size=5, unique=True))
def test_text_with_commas_and_any_iterable_are_read_alike(names: list[str]) -> None:
    """White space around a name is never part of it."""
    expected = compile_hosts(tuple(names))
    for given_names in (names, set(names), iter(names), ",".join(names), " , ".join(names)):
        assert compile_hosts(given_names).hosts == expected.hosts


@pytest.mark.parametrize("patterns", ["", [], (), [b"a.example"], [1], [None], [["a.example"]]])
def test_a_list_without_a_host_is_refused(patterns: Any) -> None:
    """An empty list would allow no host, and None any."""
    with pytest.raises(ValueError, match="host"):
        compile_hosts(patterns)
