"""Libraries that come with an extra: their absence is an instruction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtraError(ModuleNotFoundError):
    """A library is not installed; the message names the extra that installs it."""


@contextmanager
def needs(library: str, user: str, *, install: str | None = None) -> Iterator[None]:
    """Import `library` within this block, for `user`: a public name or a module.

        with needs("httpx", "HttpxAuth"):
            import httpx

    Args:
        library: The top-level module; no other import error is touched.
        user: What cannot be used without it.
        install: What pip installs; None is this package with the extra named `library`.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        yield
    except ImportError as error:
        # With a path it is there, and something in it is broken. A namespace package has none.
        if (error.name or "").partition(".")[0] != library or error.path is not None:
            raise
        command = install or f"'manor-mcp-interceptors[{library}]'"
        raise MissingExtraError(
            f"{user} needs {library}: pip install {command}", name=library
        ) from error
