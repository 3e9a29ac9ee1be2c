"""How the tests start a proxy."""

from __future__ import annotations

from .proxies import free_port


def test_no_port_is_given_twice() -> None:
    """Two listeners of one proxy ask before either listens: Envoy then ended at its start."""
    ports = [free_port() for _ in range(1_000)]
    assert len(set(ports)) == len(ports)
