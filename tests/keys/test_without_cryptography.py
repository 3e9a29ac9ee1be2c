"""The extra `crypto` is for keys alone: a shared secret needs PyJWT and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support import SECRET
from tests.support.key_pairs import key_pair, write_jwks

SCRIPT = """
import json, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError("No module named 'cryptography'", name="cryptography")
sys.meta_path.insert(0, Absent())
from manor_mcp_interceptors import MCPTokenProvider, Settings, SettingsError, TokenVerifier
from manor_mcp_interceptors.testing import StaticGate
secret, private, jwks = sys.argv[1:]
by_secret = MCPTokenProvider(Settings(secret=secret), gate=StaticGate())
accepted = TokenVerifier(Settings(secret=secret)).verify(by_secret.token()).issuer
by_key = MCPTokenProvider(Settings(private_key_file=private), gate=StaticGate()).status()
try:
    TokenVerifier(Settings(secret=secret, jwks_file=jwks))
except SettingsError as error:
    print(json.dumps([accepted, by_key.outcome, by_key.reason, str(error)]))
"""


def test_without_cryptography(tmp_path: Path) -> None:
    """Secrets work; a key's error names the variable's field, the file and what to install."""
    private = tmp_path / "key.pem"
    private.write_text(key_pair("ES256").pem())
    jwks = write_jwks(tmp_path / "jwks", key_pair("ES256"))
    command = [sys.executable, "-c", SCRIPT, SECRET, str(private), str(jwks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    issuer, outcome, reason, error = json.loads(done.stdout)
    fix = "needs cryptography: pip install 'manor-mcp-interceptors[crypto]'"
    assert (issuer, outcome) == ("manor-internal", "invalid_config")
    assert reason.startswith(f"Settings.private_key_file: {private} cannot be used: ")
    assert error.startswith(f"Settings.jwks_file: {jwks} cannot be used: ")
    assert fix in reason
    assert fix in error
