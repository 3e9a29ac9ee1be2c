"""The input of the command line: a URL, a token, the application's set-up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from manor_mcp_interceptors._bearer import HEADER_NAME

from .output import wrong_usage


def http_url(url: str, parameter: str = "--url") -> str:
    """Return `url` without user and password, so that neither is sent or shown."""
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bad address or port
        is_http = False
    if not is_http:
        raise wrong_usage("not of the form http://host:port/path", parameter)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def given_token(token: str) -> str:
    """Return the token of the argument or of standard input; a whole header is accepted too."""
    text = sys.stdin.read() if token == "-" else token  # noqa: S105 - the sign for stdin
    text = text.strip().removeprefix(f"{HEADER_NAME}:").strip()
    if text[:7].lower() == "bearer ":
        text = text[7:].strip()
    if not text:
        raise wrong_usage("standard input holds no token", "TOKEN")
    return text


def set_up(place: str) -> None:
    """Import the application's set-up and call it; its module is found from the current folder."""
    module, _, name = place.partition(":")
    if not module or not name:
        raise wrong_usage(f"{place!r} is not of the form MODULE:FUNCTION", "--setup")
    sys.path.insert(0, os.getcwd())
    function = getattr(_attempt(lambda: import_module(module), f"import of {module}"), name, None)
    if not callable(function):
        raise wrong_usage(f"the module {module} has no function {name!r}", "--setup")
    _attempt(function, place)


def _attempt(function: Callable[[], Any], what: str) -> Any:
    try:
        return function()
    except ModuleNotFoundError as error:
        problem = f"no module named {error.name!r} was found"
    except Exception as error:
        problem = f"{what} failed: {_types(error)}"
    raise wrong_usage(problem, "--setup")


def _types(error: BaseException) -> str:
    """Return the types of `error` and its causes; their texts may hold a secret."""
    name = type(error).__name__
    return name if error.__cause__ is None else f"{name}, caused by {_types(error.__cause__)}"
