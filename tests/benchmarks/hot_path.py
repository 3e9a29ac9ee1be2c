"""The token for one call: cached, with the flag on."""

from __future__ import annotations

from collections.abc import Iterator

from manor_mcp_interceptors import MCPTokenProvider, get_auth_headers, get_token

from . import _peers
from ._harness import Bench, Row, Table, calls, peer
from ._setup import LockedSnapshot, Snapshot, process_wide


def tables(bench: Bench) -> Iterator[Table]:
    """Compare our doors and the peers' with a bare snapshot."""
    with process_wide() as token:
        provider = MCPTokenProvider.get_instance()
        yield bench.compare(
            "The cached token for one call",
            [
                Row("bare snapshot method, clock check", calls(Snapshot(token).get), "floor"),
                Row("the same behind a lock", calls(LockedSnapshot(token).get), "floor"),
                Row("get_token()", calls(get_token), "ours", at_most=1.6),
                Row("MCPTokenProvider.get_token()", calls(MCPTokenProvider.get_token), "ours"),
                Row("provider.token()", calls(provider.token), "ours"),
                Row("provider.decision()", calls(provider.decision), "ours"),
                Row("get_auth_headers()", calls(get_auth_headers), "ours"),
                peer("authlib, check alone", lambda: _peers.authlib_check(token)),
                peer("authlib, check and header", lambda: _peers.authlib(token)),
                peer("azure-core, bearer policy", lambda: _peers.azure_core(token)),
                peer("google-auth, before_request", lambda: _peers.google_auth(token)),
                peer("httpx-auth, token cache", lambda: _peers.httpx_auth(token)),
                peer("nodii-grpc-auth, token manager", lambda: _peers.nodii_grpc_auth(token)),
            ],
            unit="ns",
        )
