"""A short soak: every proxy that is installed and asks a verifier."""

from __future__ import annotations

import pytest

from .soak import soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_serve_auth_under_load_by_every_proxy() -> None:
    """No call is lost; while nobody can verify it, none gets through; SIGTERM drains."""
    result = soak(2.0, lambda _: None)
    assert result.is_good, result.report()
