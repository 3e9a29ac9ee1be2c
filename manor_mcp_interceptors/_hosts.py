"""Which hosts a token may go to: patterns read once, and matched at each call."""

from __future__ import annotations

import re
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
    """Hosts, and suffixes of hosts, each with the port it is bound to or None for any."""

    hosts: frozenset[tuple[str, int | None]]
    suffixes: tuple[tuple[str, int | None], ...]
    """With the leading dot, so that ``*.example.com`` takes no ``badexample.com``."""

    def allow(self, host: str, port: int | None) -> bool:
        """Return whether a token may go to `host`, as `normalize_host` writes it."""
        if (host, None) in self.hosts or (host, port) in self.hosts:
            return True
        return any(host.endswith(end) and bound in (None, port) for end, bound in self.suffixes)


@lru_cache(maxsize=256)
def compile_hosts(patterns: tuple[str, ...]) -> AllowedHosts:
    """Read patterns: a host, or ``*.`` and the end of its name; a port may follow.

    A pattern is ASCII: an international name is given as it goes out, ``xn--…``.

    Raises:
        ValueError: A pattern is none of these.
    """
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
        text = f"[{text}]"  # a bare IPv6 address
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise _wrong(pattern)
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port <= MAX_PORT:
        raise _wrong(pattern)
    wild = match["wild"] is not None
    if match["v6"] is not None:
        host = _ipv6(match["v6"])
        if host is None or wild:
            raise _wrong(pattern)
        return False, host, port
    host = normalize_host(match["name"])
    # A wildcard is for names: no address may pass as a "subdomain" of its last numbers.
    if _NAME.fullmatch(host) is None or (wild and host.rpartition(".")[2].isdecimal()):
        raise _wrong(pattern)
    return wild, host, port


def normalize_host(host: str) -> str:
    """Return a URL's host as it is compared: lower case, no final dot, IPv6 in its short form."""
    host = host.lower()
    if ":" in host:
        return _ipv6(host.strip("[]")) or host
    return host.removesuffix(".")


def _ipv6(text: str) -> str | None:
    from ipaddress import AddressValueError, IPv6Address  # seldom needed

    try:
        return str(IPv6Address(text))
    except AddressValueError:
        return None


def _wrong(pattern: str) -> ValueError:
    return ValueError(f"{pattern[:80]!r} is not a host such as mcp.example.com:8443 or *.internal")
