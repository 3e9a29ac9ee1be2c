"""Tokens of a cluster, of SPIFFE and of Vault, from the file to a server that verifies them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from manor_mcp_interceptors import MCPTokenProvider, Reason, RequestsAuth, Settings
from tests.soak.mounted import Mount
from tests.support import StaticGate
from tests.support.auth_servers import Ways, http_server
from tests.support.issuers import (
    ACCOUNT,
    CLUSTER,
    Issuer,
    cluster,
    spiffe_helper_bundle,
    spire,
    write_in_place,
)

SPIRE = "https://spire.example.org"


def server_settings(folder: Path, jwks: str, issuer: str, **settings: Any) -> Settings:
    """Return those of a server that has no shared secret."""
    file = folder / "jwks.json"
    file.write_text(jwks)
    return Settings(jwks_file=file, issuer=issuer, **settings)


def caller(token_file: Path, **settings: Any) -> Callable[[str], int]:
    """Return what calls a URL with the token of the file, and returns the status."""
    given = Settings(token_file=token_file, recheck_seconds=0, **settings)
    session = requests.Session()
    session.auth = RequestsAuth(provider=MCPTokenProvider(given, gate=StaticGate()))
    return lambda url: session.post(url, timeout=10).status_code


def test_tokens_that_the_kubelet_swaps_are_all_accepted(tmp_path: Path) -> None:
    """With a list as `aud`, RS256, and the namespace as the pattern of allowed subjects."""
    issuer, mount = cluster(), Mount(tmp_path / "tokens")
    settings = server_settings(tmp_path, issuer.jwks(), CLUSTER)
    allowed, seen = ["system:serviceaccount:shop:*"], list[str]()
    tokens = [issuer.token(audience=["service-search-mcp", "b"], jti=n) for n in range(20)]
    mount.swap(token=tokens[0])
    call = caller(mount.path("token"))
    with http_server(settings, allowed=allowed, seen=seen) as url:
        for token in tokens:
            mount.swap(token=token)
            assert [call(url), call(url)] == [200, 200]
    assert seen == tokens


@pytest.mark.parametrize(
    ("allowed", "status"),
    [
        ([ACCOUNT], 200),
        (["system:serviceaccount:shop:*"], 200),
        (["system:serviceaccount:b:*"], 401),
    ],
)
def test_only_the_allowed_accounts_may_call(
    tmp_path: Path, allowed: list[str], status: int
) -> None:
    """By name or by namespace."""
    issuer, file = cluster(), tmp_path / "token"
    file.write_text(issuer.token())
    settings = server_settings(tmp_path, issuer.jwks(), CLUSTER)
    refused: list[Reason] = []
    with http_server(settings, allowed=allowed, refused=refused) as url:
        assert caller(file)(url) == status
    assert set(refused) == ({Reason.SUBJECT} if status == 401 else set())


def bundle(issuer: Issuer) -> str:
    """Return a bundle as SPIRE publishes it, beside the key of X.509-SVIDs."""
    return issuer.jwks(use="jwt-svid")


@pytest.mark.parametrize("publish", [bundle, spiffe_helper_bundle])
def test_svids_are_accepted_by_the_bundle(tmp_path: Path, publish: Callable[[Issuer], str]) -> None:
    """ES256 and no `iat`, which the server allows by a setting; the file is written in place."""
    issuer, file = spire(), tmp_path / "jwt_svid.token"
    settings = server_settings(tmp_path, publish(issuer), SPIRE, issued_at="optional")
    write_in_place(file, issuer.token(audience=["service-search-mcp"]))
    call, seen = caller(file), list[str]()
    with http_server(settings, allowed=["spiffe://example.org/shop/*"], seen=seen) as url:
        for number in range(10):
            write_in_place(file, issuer.token(audience=["service-search-mcp"], jti=number))
            assert call(url) == 200
    assert len(seen) == 10


def test_a_key_of_another_trust_domain_does_not_speak_for_this_one(tmp_path: Path) -> None:
    """The bundle of `spiffe-helper` may hold those of federated domains."""
    issuer, file = spire(), tmp_path / "jwt_svid.token"
    file.write_text(issuer.token())
    federated = spiffe_helper_bundle(issuer, "partner.example")
    settings = server_settings(tmp_path, federated, SPIRE, issued_at="optional")
    refused: list[Reason] = []
    with http_server(settings, refused=refused) as url:
        assert caller(file)(url) == 401
    assert set(refused) == {Reason.SUBJECT}


def test_a_token_that_was_replaced_is_used_by_the_retry(tmp_path: Path) -> None:
    """The server no longer takes the old one, and the caller has not looked at the file yet."""
    old, new, file = cluster(iss="https://old.example"), cluster(), tmp_path / "token"
    file.write_text(old.token())
    settings = server_settings(tmp_path, new.jwks(), CLUSTER)
    given = Settings(token_file=file, recheck_seconds=3600)
    provider, refused = MCPTokenProvider(given, gate=StaticGate()), list[Reason]()
    assert provider.token() is not None
    with http_server(settings, refused=refused) as url:
        write_in_place(file, new.token())
        assert requests.post(url, auth=RequestsAuth(provider=provider), timeout=10).ok
    assert refused == [Reason.ISSUER]
    assert provider.stats().retries == 1


@pytest.mark.slow
@pytest.mark.parametrize("replace", ["swap", "write"])
def test_calls_flow_while_short_lived_tokens_are_replaced(tmp_path: Path, replace: str) -> None:
    """Every two seconds, as they expire after five: four threads, 0 refused, none without token."""
    issuer, mount = cluster(), Mount(tmp_path / "tokens")
    plain = tmp_path / "token"
    settings = server_settings(tmp_path, issuer.jwks(), CLUSTER)
    file = mount.path("token") if replace == "swap" else plain

    def put() -> None:
        token = issuer.token(lifetime=5)
        mount.swap(token=token) if replace == "swap" else write_in_place(plain, token)

    put()
    given = Settings(token_file=file, margin_seconds=1, recheck_seconds=0.2)
    provider = MCPTokenProvider(given, gate=StaticGate())
    stop, ways = threading.Event(), Ways()

    def calls(url: str) -> set[int]:
        statuses = set()
        with requests.Session() as session:
            session.auth = RequestsAuth(provider=provider, required=True)
            while not stop.wait(0.01):  # leaves the processor to other tests
                statuses.add(session.post(url, timeout=10).status_code)
        return statuses

    with (
        http_server(settings, seen=ways.seen, refused=ways.refused) as url,
        ThreadPoolExecutor(4) as pool,
    ):
        running = [pool.submit(calls, url) for _ in range(4)]
        for _ in range(6):
            time.sleep(2)
            put()
        stop.set()
        assert [each.result() for each in running] == [{200}] * 4
    assert ways.refused == []
    assert len(ways.seen) >= 6
