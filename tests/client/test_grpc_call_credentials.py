from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from manor_mcp_interceptors import Settings, grpc_call_credentials
from tests.support import SECRET
from tests.support.grpc_clients import CALLS, WatchedProvider, bearer
from tests.support.grpc_server import AIO_CALLS, SYNC_CALLS, GrpcServer, expected

Way = tuple[str, str]
every_way = pytest.mark.parametrize("way", CALLS, ids="-".join)


def self_signed() -> tuple[bytes, bytes]:
    """Return a private key and its certificate for the loopback address, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return (
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(pem),
    )


@pytest.fixture(scope="module", params=["TLS", "local TCP"])
def secure(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Return the server's and the channel's credentials, for TLS and for local connections."""
    if request.param == "TLS":
        key, certificate = self_signed()
        return (
            grpc.ssl_server_credentials([(key, certificate)]),
            grpc.ssl_channel_credentials(certificate),
        )
    kind = grpc.LocalConnectionType.LOCAL_TCP
    return grpc.local_server_credentials(kind), grpc.local_channel_credentials(kind)


@pytest.fixture
def server(secure: tuple[Any, Any]) -> Iterator[GrpcServer]:
    with GrpcServer(secure[0]) as running:
        yield running


def call(way: Way, server: GrpcServer, secure: tuple[Any, Any], **adapter: Any) -> bytes:
    call_credentials = grpc_call_credentials(**adapter)
    credentials = grpc.composite_channel_credentials(secure[1], call_credentials)
    if way[0] == "sync":
        with grpc.secure_channel(server.target, credentials) as channel:
            return SYNC_CALLS[way[1]](channel, timeout=10)

    async def run() -> bytes:
        async with grpc.aio.secure_channel(server.target, credentials) as channel:
            return await AIO_CALLS[way[1]](channel, timeout=10)

    return asyncio.run(run())


@every_way
@pytest.mark.parametrize("on", [True, False])
def test_on_every_call(way: Way, on: bool, server: GrpcServer, secure: tuple[Any, Any]) -> None:
    """Exactly one token with the flag on, and none with the flag off."""
    provider = WatchedProvider(on=on)
    assert call(way, server, secure, provider=provider) == expected(way[1])
    assert server.authorization == [[bearer(provider.token())] if on else []]


def test_required(server: GrpcServer, secure: tuple[Any, Any]) -> None:
    """If a required token is missing, the call fails before it is sent, and the error says why."""
    with pytest.raises(grpc.RpcError) as caught:
        call(CALLS[0], server, secure, provider=WatchedProvider(on=False), required=True)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "flag_off" in str(caught.value.details())
    assert server.calls == []


class BrokenProvider(WatchedProvider):
    def decision(self, max_wait: float | None = None) -> Any:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize("required", [True, False])
def test_a_bug_neither_hangs_nor_tells(
    required: bool,
    server: GrpcServer,
    secure: tuple[Any, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The callback is always called: with no metadata, or with a failure if a token is required."""
    adapter = {"provider": BrokenProvider(), "required": required}
    if required:
        with pytest.raises(grpc.RpcError):
            call(CALLS[0], server, secure, **adapter)
        assert server.calls == []
    else:
        call(CALLS[0], server, secure, **adapter)
        assert server.authorization == [[]]
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text


def test_an_audience(server: GrpcServer, secure: tuple[Any, Any]) -> None:
    """The audience decides which token goes out."""
    provider = WatchedProvider()
    call(CALLS[0], server, secure, provider=provider, audience="elsewhere")
    assert server.authorization == [[bearer(provider.for_audience("elsewhere").token())]]
    assert Settings().audience != "elsewhere"
