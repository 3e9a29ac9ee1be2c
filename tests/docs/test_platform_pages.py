"""The pages on Kubernetes, SPIFFE and Vault: their variables and servers take such tokens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from manor_mcp_interceptors import MCPTokenProvider
from manor_mcp_interceptors.server.asgi_middleware import TokenAuthMiddleware
from tests.docs.pages import example
from tests.docs.test_server_examples import get
from tests.support.issuers import Issuer, cluster, spiffe_helper_bundle, spire
from tests.support.uvicorn_server import serve

KUBERNETES, SPIFFE = "docs/kubernetes.md", "docs/spiffe.md"
PLATFORMS = [(KUBERNETES, "The server"), (SPIFFE, "SPIFFE: the server")]


def exported(page: str, heading: str, number: int) -> dict[str, str]:
    """Return the variables that a block exports."""
    code = example(page, heading, number, "sh")
    return dict(re.findall(r"^export (\w+)=(\S+)", code, re.MULTILINE))


def jwks_of(page: str, issuer: Issuer) -> str:
    return spiffe_helper_bundle(issuer) if page == SPIFFE else issuer.jwks(use="sig", alg="RS256")


@pytest.mark.parametrize(
    ("page", "heading", "block", "issuer", "refused"),
    [
        (*PLATFORMS[0], 1, cluster(), cluster(sub="system:serviceaccount:other:basket")),
        (*PLATFORMS[1], 0, spire(), spire(sub="spiffe://example.org/other")),
    ],
    ids=["Kubernetes", "SPIFFE"],
)
def test_the_variables_of_the_page_let_the_callers_in_that_they_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
    heading: str,
    block: int,
    issuer: Issuer,
    refused: Issuer,
) -> None:
    """As they are printed, but for the folder of the keys; no code names a caller."""
    variables = exported(page, heading, block)
    assert set(variables) >= {"MCP_AUTH_JWKS_FILE", "MCP_AUTH_ISSUER", "MCP_AUTH_AUDIENCE"}
    keys = tmp_path / Path(variables["MCP_AUTH_JWKS_FILE"]).name
    keys.write_text(jwks_of(page, issuer))
    for name, value in {**variables, "MCP_AUTH_JWKS_FILE": str(keys)}.items():
        monkeypatch.setenv(name, value)
    with serve(TokenAuthMiddleware(PlainTextResponse("let in"))) as url:
        for each, expected in ((issuer, 200), (refused, 401)):
            token = each.token(audience=[variables["MCP_AUTH_AUDIENCE"]])
            assert get(f"{url}/whoami", {"Authorization": f"Bearer {token}"})[0] == expected


def test_the_pod_mounts_the_token_where_its_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And asks for the audience that the caller and the server name."""
    pod = example(KUBERNETES, "The caller", language="yaml")
    variables = dict(re.findall(r'- name: (M\w+)\n +value: "?([^"\n]+)', pod))
    (mount,) = re.findall(r"mountPath: (\S+)", pod)
    (path,) = re.findall(r"\n +path: (\S+)", pod)
    assert variables["MCP_AUTH_TOKEN_FILE"] == f"{mount}/{path}"
    (audience,) = re.findall(r"audience: (\S+)", pod)
    assert audience == variables["MCP_AUTH_AUDIENCE"]
    assert audience == exported(KUBERNETES, "The server", 1)["MCP_AUTH_AUDIENCE"]
    (tmp_path / path).write_text(cluster().token(audience=[audience]))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace(mount, str(tmp_path)))
    assert MCPTokenProvider().token() == (tmp_path / path).read_text()


def test_the_files_of_the_helper_are_those_of_the_variables() -> None:
    """Its folder and names; the audience too."""
    helper = dict(
        re.findall(r'(\w+) ?= ?"([^"]+)"', example(SPIFFE, "SPIFFE: the caller", 0, "hcl"))
    )
    caller = exported(SPIFFE, "SPIFFE: the caller", 0)
    server = exported(SPIFFE, "SPIFFE: the server", 0)
    token = f"{helper['cert_dir']}/{helper['jwt_svid_file_name']}"
    assert caller == {"MCP_AUTH_TOKEN_FILE": token, "MCP_AUTH_AUDIENCE": helper["jwt_audience"]}
    bundle = f"{helper['cert_dir']}/{helper['jwt_bundle_file_name']}"
    assert server["MCP_AUTH_JWKS_FILE"] == bundle
    assert server["MCP_AUTH_ISSUER"] in example(SPIFFE, "SPIFFE: the caller", 1, "hcl")
    assert f'destination = "{token}"' in example(SPIFFE, "Vault: the caller", 0, "hcl")
