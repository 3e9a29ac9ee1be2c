"""Where a proxy listens, and whom it passes calls to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MAX_PORT: Final = 65_535
_ADDRESS: Final = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port. Neither holds a character that means something to a proxy."""

    host: str
    """A name, an IPv4 address, or an IPv6 address in brackets."""
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address in ``HOST:PORT``.

        Raises:
            ValueError: It is none.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None or not 0 < int(match["port"]) <= _MAX_PORT:
            raise ValueError(f"{text!r} is not of the form HOST:PORT, such as 127.0.0.1:8000")
        return cls(match["host"], int(match["port"]))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def as_envoy(self) -> dict[str, object]:
        """Return it as Envoy's `socket_address`."""
        return {"address": self.host.strip("[]"), "port_value": self.port}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses in a configuration."""

    listen: Address
    """For HTTP."""
    grpc_listen: Address
    upstream: Address
    """The HTTP service."""
    grpc_upstream: Address
    auth: Address
    """The verifier that a proxy asks: ``manor-mcp serve-auth``."""
