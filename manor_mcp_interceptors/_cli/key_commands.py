"""The commands for keys: ``keygen`` and ``jwks``."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from manor_mcp_interceptors._keys.new_key import new_private_key
from manor_mcp_interceptors._keys.private_key import parse_private_key
from manor_mcp_interceptors._optional import MissingExtraError

from .files import write_public, write_secret
from .key_files import KeyFileError, MergedKeys, bind, shown, with_key
from .output import fail, print_line, wrong_usage

Es256 = Annotated[bool, typer.Option("--es256", help="A P-256 key, for ES256: the usual one.")]
Ed25519 = Annotated[bool, typer.Option("--ed25519", help="An Ed25519 key, for EdDSA.")]
Rsa = Annotated[bool, typer.Option("--rsa", help="An RSA key, for RS256.")]
Output = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write it to this file, which only its owner can read."),
]
Jwks = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Add the public half of the key to this JWKS file."),
]
Sub = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="The key speaks for this subject alone; repeatable."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]
Files = Annotated[
    list[Path], typer.Argument(metavar="FILE…", help="PEM keys, private or public, and JWKS files.")
]


def keygen(
    es256: Es256 = False,  # noqa: FBT002 - options, as typer wants them
    ed25519: Ed25519 = False,  # noqa: FBT002
    rsa: Rsa = False,  # noqa: FBT002
    output: Output = None,
    jwks: Jwks = None,
    sub: Sub = None,
    force: Force = False,  # noqa: FBT002
) -> None:
    """Print a strong secret (48 random bytes, as text), or a private key (PEM).

    With --es256, --ed25519 or --rsa it is a private key of one service; the
    servers get its public half, which --jwks writes.
    """
    kinds = {"ES256": es256, "EdDSA": ed25519, "RS256": rsa}
    chosen = [algorithm for algorithm, wanted in kinds.items() if wanted]
    if len(chosen) > 1:
        raise wrong_usage("choose one of --es256, --ed25519 and --rsa", "--es256")
    if jwks is not None and not chosen:
        problem = "a shared secret has no public half: add --es256, --ed25519 or --rsa"
        raise wrong_usage(problem, "--jwks")
    if jwks is not None and output is not None and jwks.resolve() == output.resolve():
        raise wrong_usage("the private key and the public ones need a file each", "--jwks")
    if sub is not None and jwks is None:
        raise wrong_usage("it is written to the JWKS file: add --jwks FILE", "--sub")
    if not chosen:
        _put(output, secrets.token_urlsafe(48) + "\n", force=force)
        return
    with _errors_in_words():
        _make_pair(chosen[0], output, jwks, _subjects(sub), force=force)


def _make_pair(
    algorithm: str, output: Path | None, jwks: Path | None, subjects: list[str], *, force: bool
) -> None:
    private = new_private_key(algorithm)
    key = parse_private_key(private)
    # Before anything is written, so that a bad JWKS file leaves no half of a pair behind.
    public = None if jwks is None else with_key(jwks, bind(key.public_jwk(), subjects))
    if output is not None:
        _put(output, private, force=force)
    if jwks is not None and public is not None:
        with _writing(jwks):
            write_public(jwks, public)
        print_line(f"added the kid {key.key_id} to {jwks}")
    if output is None:
        _put(None, private, force=force)


def jwks(files: Files, sub: Sub = None) -> None:
    """Print one JWKS of PEM files and JWKS files: public keys only, each once.

    --sub binds the keys of the PEM files to subjects; keys of JWKS files keep the
    binding that they have. A JWKS file that holds a private key or a secret is
    refused.
    """
    with _errors_in_words():
        _merge(files, _subjects(sub))


def _merge(files: list[Path], subjects: list[str]) -> None:
    merged = MergedKeys()
    for path in files:
        merged.add_file(path, subjects)
    if subjects and not merged.has_pem:
        raise wrong_usage("it binds the keys of PEM files, and none is given", "--sub")
    for problem in merged.left_out:
        print_line(problem, "yellow")
    if not merged.keys:
        raise KeyFileError("no key is left that can be used")
    sys.stdout.write(shown(merged.keys))


def _subjects(sub: list[str] | None) -> list[str]:
    return [name.strip() for name in sub or ()]


def _put(output: Path | None, secret: str, *, force: bool) -> None:
    """Write a secret or a private key to its file, or to standard output."""
    if output is None:
        sys.stdout.write(secret)
        return
    with _writing(output):
        write_secret(output, secret, force=force)
    print_line(f"wrote {output}, mode 0600")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        fail(f"{path} exists: --force replaces it; tokens that it signed may then be refused")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")


@contextmanager
def _errors_in_words() -> Iterator[None]:
    try:
        yield
    except KeyFileError as error:
        fail(str(error))
    except MissingExtraError as missing:
        print_line(str(missing), "red")
        raise typer.Exit(2) from None
