"""The configurations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .envoy import envoy, envoy_forward
from .haproxy import haproxy, haproxy_forward
from .nginx import nginx, nginx_forward
from .rendering import File, Request, address_values, fill


def configuration(name: str, request: Request) -> list[File]:
    """Return the files of a configuration; the proxy is started with the first.

    Args:
        name: One of `NAMES`.
        request: What it is made from.

    Raises:
        SettingsError: A setting cannot be expressed in it.
    """
    return _MAKERS[name](request)


def _caddy(request: Request) -> list[File]:
    return [fill("Caddyfile", "caddy.Caddyfile", address_values(request.addresses))]


_MAKERS: Final[dict[str, Callable[[Request], list[File]]]] = {
    "haproxy": haproxy,
    "haproxy-forward": haproxy_forward,
    "nginx": nginx,
    "nginx-forward": nginx_forward,
    "caddy": _caddy,
    "envoy": envoy,
    "envoy-forward": envoy_forward,
}
NAMES: Final = tuple(_MAKERS)
