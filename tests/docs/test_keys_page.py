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


def result(verifier: TokenVerifier, token: str) -> str:
    """Return the subject, or why the token is refused."""
    try:
        return verifier.verify(token).subject
    except TokenRejectedError as error:
        return f"refused: {error.reason}"


def test_each_key_speaks_for_its_service_alone(tmp_path: Path) -> None:
    """Both ways to the servers' file."""
    type_in(tmp_path, 0)
    type_in(tmp_path, 2)
    tokens = [
        token(tmp_path, "orders.pem", "service-orders"),
        token(tmp_path, "orders.pem", "service-billing"),
        token(tmp_path, "billing.pem", "service-billing"),
    ]
    for file in ("jwks.json", "all.json"):
        verifier = TokenVerifier(Settings(jwks_file=tmp_path / file))
        found = [result(verifier, each) for each in tokens]
        assert found == ["service-orders", "refused: subject", "service-billing"]
