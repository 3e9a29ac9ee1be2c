"""Where a proxy differs from the library's own verifier, as measured: a change is noticed here.

docs/edge.md has the same table. A number is the status of the proxy's own answer. With "or" between
them, either happens.
"""

from __future__ import annotations

from typing import Final

_NGINX: Final = {
    "two headers": "400",
    "two headers, the first forged": "400",
    "token of 100 KiB": "400",
    "gRPC two entries": "INTERNAL",
}
_HAPROXY: Final = {
    "token of 100 KiB": "400",
    **dict.fromkeys(
        (
            "gRPC ClientStream, forged",
            "gRPC ClientStream, no token",
            "gRPC Bidi, forged",
            "gRPC Bidi, no token",
            "gRPC expired",
            "gRPC own x-mcp-caller, forged",
        ),
        "UNAUTHENTICATED or CANCELLED",
    ),
}
_ENVOY: Final = {"token of 100 KiB": "431"}

DEVIATIONS: Final[dict[str, dict[str, str]]] = {
    "haproxy": {
        **_HAPROXY,
        "audience list, second": "401",
        "EdDSA": "401",
        "sub twice": "service-b",
        "exp twice, the good one first": "service-a",
    },
    "haproxy-forward": _HAPROXY,
    "nginx": {**_NGINX, "EdDSA": "401", "sub twice": "service-a", "exp twice": "service-a"},
    "nginx-forward": _NGINX,
    "caddy": {"token of 100 KiB": "431"},
    "envoy": {
        **_ENVOY,
        "scheme in lower case": "401",
        "scheme in upper case": "401",
        "aud missing": "403",
        "another aud": "403",
        "audience list without it": "403",
        "gRPC another aud": "PERMISSION_DENIED",
    },
    "envoy-forward": _ENVOY,
}
"""By configuration and case."""

LOOSE: Final[dict[str, set[str]]] = {
    "haproxy": {"malformed", "header"},
    "nginx": {"malformed", "header"},
    "envoy": {"header"},
}
"""The reasons for which the verifier refuses tokens with a good signature that get through."""
