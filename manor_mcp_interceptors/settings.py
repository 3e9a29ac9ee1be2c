"""The settings: every variable once, its form, its default, and the frozen value they make."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, TypeVar

from ._hosts import compile_hosts
from .errors import SettingsError

__all__ = ["VARIABLES", "Settings", "Variable"]

_T = TypeVar("_T")
_TEN_YEARS: Final = 315_360_000
_SERVICE_NAME: Final = "SERVICE_NAME"
_DEFAULT_SUBJECT: Final = "service-application"
_DEFAULT_FLAG: Final = "manor_search_enable_api_token_v1"


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable and the `Settings` field that it fills."""

    name: str
    field: str
    form: str
    """The form of its value, as an error message states it."""
    parse: Callable[[str], object]
    """Text to value; raises ValueError where the text has not that form."""
    accepts: Callable[[Any], bool]
    """Whether a value given in code is usable."""
    optional: bool = False
    """Whether the field may be None: not set."""
    secret: bool = False
    """Whether the value must never be shown."""
    blank_is_unset: bool = False


def _checked(settings: type[_T]) -> type[_T]:
    """Have the class check its fields after ``__init__``, whose locals hold a secret."""
    fill: Callable[..., None] = settings.__init__

    @wraps(fill)
    def __init__(self: Any, /, **values: Any) -> None:  # noqa: N807 - it becomes the class's own
        fill(self, **values)
        del values  # a traceback that prints locals prints no secret
        if wrong := _first_wrong(self):
            raise wrong

    settings.__init__ = __init__  # type: ignore[method-assign, assignment]
    return settings


@_checked
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a provider or a verifier is told. Immutable; checked when it is made.

    Each field is documented at its variable in `VARIABLES` and in the README. A pickled
    `Settings` leaves its secrets behind: they do not belong in a task queue or on a disk.

    Raises:
        SettingsError: A value is malformed.
    """

    secret: str | None = field(default=None, repr=False)
    secret_file: str | os.PathLike[str] | None = None
    issuer: str = "manor-internal"
    audience: str = "service-search-mcp"
    subject: str = _DEFAULT_SUBJECT
    ttl_seconds: int = 3600
    margin_seconds: int = 30
    feature_flag: str = _DEFAULT_FLAG
    clock_skew_seconds: int = 5
    recheck_seconds: float = 1.0
    key_id: str | None = None
    previous_secret: str | None = field(default=None, repr=False)
    previous_secret_file: str | os.PathLike[str] | None = None
    allowed_hosts: tuple[str, ...] | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the variables of `environ`, by default the process's own, as they are now.

        Raises:
            SettingsError: A variable's value has not the form it must have.
        """
        read = _read(os.environ if environ is None else environ)
        del environ  # a traceback that prints locals prints no secret
        if isinstance(read, SettingsError):
            raise read
        return cls(**read)

    def __copy__(self) -> Settings:
        return self

    def __deepcopy__(self, _: object) -> Settings:
        return self

    def __reduce__(self) -> tuple[Callable[..., Settings], tuple[dict[str, Any]]]:
        """Pickle all but the secrets."""
        kept = [variable.field for variable in VARIABLES if not variable.secret]
        return _restore, ({name: getattr(self, name) for name in kept},)


def _first_wrong(settings: Settings) -> SettingsError | None:
    for variable in VARIABLES:
        value = getattr(settings, variable.field)
        if not (value is None and variable.optional) and not variable.accepts(value):
            return _wrong(variable, value, f"Settings.{variable.field} ({variable.name})")
    return None


def _read(environ: Mapping[str, str]) -> dict[str, Any] | SettingsError:
    """Return the fields' values, or what is wrong with the first that is; raise nothing."""
    values: dict[str, Any] = {"subject": _service_name(environ)}
    for variable in VARIABLES:
        text = environ.get(variable.name)
        if text is None or (variable.blank_is_unset and not text.strip()):
            continue
        try:
            value = variable.parse(text)
        except ValueError:
            value = None
        if value is None or not variable.accepts(value):
            return _wrong(variable, text, variable.name)
        values[variable.field] = value
    return values


def flag_and_subject(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the flag's key and the subject, whatever else in the environment is wrong.

    The flag is asked before the settings are judged: a broken TTL behind a flag that is off is
    "flag off", not an error.
    """
    flag = environ.get("MCP_AUTH_FEATURE_FLAG", "").strip() or _DEFAULT_FLAG
    subject = environ.get("MCP_AUTH_SUBJECT", "").strip() or _service_name(environ)
    return flag, subject


def _service_name(environ: Mapping[str, str]) -> str:
    return environ.get(_SERVICE_NAME, "").strip() or _DEFAULT_SUBJECT


def _restore(values: dict[str, Any]) -> Settings:
    return Settings(**values)


def _wrong(variable: Variable, value: object, name: str) -> SettingsError:
    shown = "<not shown>" if variable.secret else _shorten(repr(value))
    message = f"{name}={shown} is not {variable.form}"
    return SettingsError(message, variable=variable.name)


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text.strip(), re.ASCII):
        raise ValueError
    return int(text)


def _whole_number_between(low: int, high: int) -> Callable[[Any], bool]:
    # bool is an int in Python; ttl_seconds=True is a mistake all the same.
    return lambda value: type(value) is int and low <= value <= high


def _seconds(value: Any) -> bool:
    # An int may be larger than any float, which the clock's seconds are.
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max


def _text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != "" and _encodable(value)


def _encodable(value: str) -> bool:
    # An undecodable byte in the environment arrives as a lone surrogate: no UTF-8, no token.
    return not re.search("[\ud800-\udfff]", value)


def _file_path(value: Any) -> bool:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    return _text(path) and "\0" not in path


def _hosts(text: str) -> tuple[str, ...]:
    return tuple(host.strip() for host in text.split(","))


def _host_tuple(value: Any) -> bool:
    if not isinstance(value, tuple) or not value or not all(_text(host) for host in value):
        return False
    try:
        compile_hosts(value)
    except ValueError:
        return False
    return True


_TEXT: Final = ("text that is not blank", str, _text)


def _secret(name: str, field: str) -> Variable:
    form = "text in UTF-8 that is not blank"
    return Variable(name, field, form, str, _text, optional=True, secret=True, blank_is_unset=True)


def _file(name: str, field: str) -> Variable:
    form = "the path of a file"
    return Variable(name, field, form, str.strip, _file_path, optional=True, blank_is_unset=True)


VARIABLES: Final[tuple[Variable, ...]] = (
    _secret("MCP_AUTH_SECRET", "secret"),
    _file("MCP_AUTH_SECRET_FILE", "secret_file"),
    Variable("MCP_AUTH_ISSUER", "issuer", *_TEXT),
    Variable("MCP_AUTH_AUDIENCE", "audience", *_TEXT),
    Variable("MCP_AUTH_SUBJECT", "subject", *_TEXT),
    Variable(
        "MCP_AUTH_TTL_SECONDS",
        "ttl_seconds",
        "a whole number of seconds > 0, such as 3600",
        _whole_number,
        _whole_number_between(1, _TEN_YEARS),
    ),
    Variable(
        "MCP_AUTH_MARGIN_SECONDS",
        "margin_seconds",
        "a whole number of seconds >= 0, such as 30",
        _whole_number,
        _whole_number_between(0, _TEN_YEARS),
    ),
    Variable("MCP_AUTH_FEATURE_FLAG", "feature_flag", *_TEXT),
    Variable(
        "MCP_AUTH_CLOCK_SKEW_SECONDS",
        "clock_skew_seconds",
        "a whole number of seconds >= 0, such as 5",
        _whole_number,
        _whole_number_between(0, _TEN_YEARS),
    ),
    Variable(
        "MCP_AUTH_RECHECK_SECONDS",
        "recheck_seconds",
        "a number of seconds >= 0, such as 1 or 0.5",
        float,
        _seconds,
    ),
    Variable("MCP_AUTH_KEY_ID", "key_id", *_TEXT, optional=True, blank_is_unset=True),
    _secret("MCP_AUTH_PREVIOUS_SECRET", "previous_secret"),
    _file("MCP_AUTH_PREVIOUS_SECRET_FILE", "previous_secret_file"),
    Variable(
        "MCP_AUTH_ALLOWED_HOSTS",
        "allowed_hosts",
        "a comma-separated list of hosts, such as mcp.example.com,*.internal (unset it for any)",
        _hosts,
        _host_tuple,
        optional=True,
    ),
)
"""Every variable there is, in the order of the README's table."""
