"""The hosts that a token may go to: patterns that are read once and matched at each call."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_PORT: Final = 65_535

_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
_PATTERN: Final = re.compile(
    r"(?P<wild>\*\.)?(?:\[(?P<v6>[^]]*)\]|(?P<name>[^:]*))(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Hosts and suffixes of hosts, each with its port; None allows any port."""

    hosts: frozenset[tuple[str, int | None]]
    suffixes: tuple[tuple[str, int | None], ...]
    """With the leading dot, so that ``*.example.com`` does not match ``badexample.com``."""

    def allow(self, host: str, port: int | None) -> bool:
        """Return whether a token may go to `host`, as `normalize_host` returns it."""
        if (host, None) in self.hosts or (host, port) in self.hosts:
            return True
        return any(host.endswith(end) and bound in (None, port) for end, bound in self.suffixes)


def compile_hosts(patterns: Iterable[str] | str) -> AllowedHosts:
    """Read patterns: a host or ``*.`` and the end of its name, with or without a port.

    A pattern is ASCII: an international name is written as it is sent, ``xn--…``.

    Args:
        patterns: Any iterable of texts, or one text with commas between the patterns.

    Raises:
        ValueError: There is no pattern, or one is malformed; the message names it and the form.
    """
    given = tuple(patterns.split(",") if isinstance(patterns, str) else patterns)
    if not given:
        raise ValueError("the list of hosts is empty; leave it unset to allow any host")
    for pattern in given:
        if not isinstance(pattern, str):
            raise _malformed(pattern)
    return _compile(given)


@lru_cache(maxsize=256)
def _compile(patterns: tuple[str, ...]) -> AllowedHosts:
    hosts, suffixes = set(), []
    for pattern in patterns:
        wild, host, port = _read(pattern)
        if wild:
            suffixes.append((f".{host}", port))
        else:
            hosts.add((host, port))
    return AllowedHosts(frozenset(hosts), tuple(suffixes))


def _read(pattern: str) -> tuple[bool, str, int | None]:
    text = pattern.strip().lower()
    if text.count(":") > 1 and "[" not in text:
        text = f"[{text}]"  # an IPv6 address without brackets
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise _malformed(pattern)
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port <= MAX_PORT:
        raise _malformed(pattern)
    wild = match["wild"] is not None
    if match["v6"] is not None:
        host = _ipv6(match["v6"])
        if host is None or wild:
            raise _malformed(pattern)
        return False, host, port
    host = normalize_host(match["name"])
    # A wildcard is for names: no address may match as a "subdomain" of its last numbers.
    if _NAME.fullmatch(host) is None or (wild and host.rpartition(".")[2].isdecimal()):
        raise _malformed(pattern)
    return wild, host, port


def normalize_host(host: str) -> str:
    """Return a URL's host in the form that is compared.

    It is in lower case and has no final dot; an IPv6 address has its short form.
    """
    host = host.lower()
    if ":" in host:
        return _ipv6(host.strip("[]")) or host
    return host.removesuffix(".")


def _ipv6(text: str) -> str | None:
    from ipaddress import AddressValueError, IPv6Address  # rarely needed

    try:
        return str(IPv6Address(text))
    except AddressValueError:
        return None


def _malformed(pattern: object) -> ValueError:
    shown = repr(pattern)[:82]
    return ValueError(f"{shown} is not a host such as mcp.example.com:8443 or *.internal")
