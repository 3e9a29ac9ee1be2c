"""The commands of docs/keys.md make keys that do what the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, TokenRejectedError, TokenVerifier
from tests.docs.pages import example
from tests.support import StaticGate

pytestmark = pytest.mark.slow


def type_in(folder: Path, number: int) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    code = example("docs/keys.md", "Make a key pair", number, "sh")
    subprocess.run(["sh", "-e", "-c", code], cwd=folder, env={"PATH": path}, check=True)


def token(folder: Path, name: str, subject: str) -> str:
    settings = Settings(private_key_file=folder / name, subject=subject)
    return str(MCPTokenProvider(settings, gate=StaticGate()).token())


def test_each_key_speaks_for_its_service_alone(tmp_path: Path) -> None:
    """Both ways to the servers' file; a key that was merged without a subject speaks for anyone."""
    type_in(tmp_path, 0)
    type_in(tmp_path, 1)
    orders = token(tmp_path, "orders.pem", "service-orders")
    forged = token(tmp_path, "orders.pem", "service-billing")
    billing = token(tmp_path, "billing.pem", "anyone")
    for file, reason in (("jwks.json", "subject"), ("all.json", None)):
        verifier = TokenVerifier(Settings(jwks_file=tmp_path / file))
        assert verifier.verify(orders).subject == "service-orders"
        with pytest.raises(TokenRejectedError) as refused:
            verifier.verify(forged)
        assert refused.value.reason == "subject"
        found = None
        try:
            verifier.verify(billing)
        except TokenRejectedError as error:
            found = error.reason
        assert found == reason
