"""A rotation at each proxy, and secrets that open nothing."""

from __future__ import annotations

import secrets
from pathlib import Path

import grpc
import pytest

from tests.support import SECRET

from .grpc_calls import call
from .harness import proxy_and_verifier
from .rotating import Load, Runbook, SecretFiles, bearer, opens, until
from .upstreams import Upstreams

NO_SECRETS = (
    "# the previous secret, until everybody has the new one",
    "#\tthe previous secret, until everybody has the new one",
    " " * 40,
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nbGluZQ==\n-----END ENCRYPTED PRIVATE KEY-----",
    '{"keys": [\n "x": "the-first-coordinate-of-a-public-key-in-base64"\n]}',
)
"""What a file may hold that anybody could guess, or has."""


def file_of(path: Path, text: str) -> dict[str, str]:
    """Return the variable that names a file of previous secrets, which holds `text`."""
    path.write_text(f"{text}\n")
    return {"MCP_AUTH_PREVIOUS_SECRET_FILE": str(path)}


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2])
def test_a_proxy_that_is_started_in_a_rotation_accepts_both_secrets(
    name: str, step: int, services: Upstreams, tmp_path: Path
) -> None:
    """After step 1 as after step 2, of which the previous file is the same."""
    old, new = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
    files = SecretFiles(tmp_path)
    files.write("mcp-previous", "# old, then new", old, "", new)
    files.write("mcp", old if step == 1 else new)
    with proxy_and_verifier(name, services, tmp_path / "proxy", files.environ) as proxy:
        assert [opens(proxy, key) for key in (old, new, "")] == [True, True, False]


@pytest.mark.slow
def test_a_rotation_refuses_nobody_and_ends(name: str, services: Upstreams, tmp_path: Path) -> None:
    """By the runbook, under load; afterwards neither the old secret nor an empty key opens."""
    old, new = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
    files = SecretFiles(tmp_path)
    files.write("mcp", old)
    with (
        proxy_and_verifier(name, services, tmp_path / "proxy", files.environ) as proxy,
        grpc.insecure_channel(proxy.grpc) as channel,
    ):
        assert call(channel, "Unary", bearer(old)) is None
        runbook, load = Runbook(proxy, files, old, new), Load(proxy, old)
        with load.running():
            load.let_pass(100)
            runbook.accept_the_new_secret()
            until(lambda: call(channel, "Unary", bearer(new)) is None and opens(proxy, new))
            load.secret = new
            runbook.sign_with_the_new_secret()
            load.let_pass(100)
            assert opens(proxy, old)
            runbook.forget_the_old_secret()
            # A connection that was open before is no way around it.
            until(lambda: call(channel, "Unary", bearer(old)) is not None)
            until(lambda: not opens(proxy, old))
            load.let_pass(100)
        assert load.refused == []
        assert [opens(proxy, key) for key in (new, old, "", " ", "none")] == [True, *[False] * 4]


@pytest.mark.slow
def test_a_secret_that_is_missing_empty_or_short_opens_nothing(
    name: str, services: Upstreams, tmp_path: Path
) -> None:
    """The current secret still does. The library's own verifier accepts a short one, and warns."""
    short = "k" * 31
    environments: dict[str, dict[str, str]] = {
        "unset": {},
        "empty": {"MCP_AUTH_PREVIOUS_SECRET": ""},
        "short": {"MCP_AUTH_PREVIOUS_SECRET": short},
        "no-file": {"MCP_AUTH_PREVIOUS_SECRET_FILE": str(tmp_path / "none")},
        "no-line": {"MCP_AUTH_PREVIOUS_SECRET_FILE": str(tmp_path / "empty")},
        "short-line": {"MCP_AUTH_PREVIOUS_SECRET_FILE": str(tmp_path / "short")},
        **{f"no-secret-{n}": file_of(tmp_path / str(n), text) for n, text in enumerate(NO_SECRETS)},
    }
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "short").write_text(f"\n{short}\n")
    guesses = [line for text in NO_SECRETS for line in (text, *text.split("\n"))]
    found = {}
    for case, previous in environments.items():
        environ = {"MCP_AUTH_SECRET": SECRET, **previous}
        with proxy_and_verifier(name, services, tmp_path / f"for-{case}", environ) as proxy:
            keys = (SECRET, "", short, "none", *guesses)
            found[case] = [key for key in keys if opens(proxy, key)]
    accepts_short = [SECRET, short] if proxy.kind.asks else [SECRET]
    assert found == {
        case: accepts_short if case.startswith("short") else [SECRET] for case in environments
    }
