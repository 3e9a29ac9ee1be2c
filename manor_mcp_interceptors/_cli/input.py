"""What the command line takes: a URL, a token, a place in the application, a file to write."""

from __future__ import annotations

import os
import secrets
import sys
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import typer

from manor_mcp_interceptors._bearer import HEADER_NAME


def is_http(url: str) -> bool:
    """Return whether `url` can be called over HTTP."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an address or a port that is none
        return False


def given_token(token: str) -> str:
    """Return the token of the argument or of standard input; a whole header is fine, too."""
    text = sys.stdin.read() if token == "-" else token  # noqa: S105 - the sign for stdin
    text = text.strip().removeprefix(f"{HEADER_NAME}:").strip()
    if text[:7].lower() == "bearer ":
        text = text[7:].strip()
    if not text:
        raise typer.BadParameter("standard input holds no token", param_hint="TOKEN")
    return text


def set_up(place: str) -> None:
    """Import the application's set-up and call it; its module is found from the current folder."""
    module, _, function = place.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        loaded = import_module(module)
        if function:
            getattr(loaded, function)()
    except Exception as error:
        # The type alone: what the application's own errors hold is not ours to print.
        line = f"{place} failed: {type(error).__name__}"
        raise typer.BadParameter(line, param_hint="--setup") from None


def write_secret(path: Path, secret: str, *, force: bool) -> None:
    """Write a file that nobody else could read at any moment, and that is never half written."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}") if force else path
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    if force:
        os.replace(new, path)
