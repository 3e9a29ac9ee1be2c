"""Libraries that come with an extra: their absence is an instruction."""

from __future__ import annotations

from types import TracebackType


class MissingExtraError(ModuleNotFoundError):
    """A library is not installed; the message names the extra that installs it."""


class needs:  # noqa: N801 - it reads as a statement
    """Import `library` within this block, for `user`: a public name or a module.

        with needs("httpx", "HttpxAuth"):
            import httpx

    Raises:
        MissingExtraError: The library is not installed. No other import error is touched.
    """

    def __init__(self, library: str, user: str, *, extra: str | None = None) -> None:
        """Take what the message names.

        Args:
            library: The top-level module.
            user: What cannot be used without it.
            extra: The extra that installs it; None: it is named after the module.
        """
        self._library = library
        extra = f"'manor-mcp-interceptors[{extra or library}]'"
        self._message = f"{user} needs {library}: pip install {extra}"

    def __enter__(self) -> None:
        pass

    # No bool, so that type checkers know that the block was executed.
    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        # With a path it is there, and something in it is broken. A namespace package has none.
        if not isinstance(error, ImportError) or error.path is not None:
            return
        if (error.name or "").partition(".")[0] == self._library:
            raise MissingExtraError(self._message, name=self._library) from error
