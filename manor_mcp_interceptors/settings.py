"""The settings: every variable once, its form, its default, and the frozen value they make."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial, wraps
from typing import Any, Final, Literal, TypeVar

from ._hosts import compile_hosts
from ._secrecy import HoldsSecret
from ._subjects import Subjects
from .errors import SettingsError

__all__ = ["VARIABLES", "Settings", "Variable"]

NOT_SHOWN: Final = "<not shown>"
"""Stands for a value that may be a secret."""

_T = TypeVar("_T")
_TEN_YEARS: Final = 315_360_000
_SERVICE_NAME: Final = "SERVICE_NAME"
_DEFAULT_SUBJECT: Final = "service-application"
_DEFAULT_FLAG: Final = "manor_search_enable_api_token_v1"
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable and the `Settings` field that it fills."""

    name: str
    field: str
    form: str
    """The form of its value, as an error message states it."""
    read: Callable[[Any], object]
    """Return a value as the field holds it; None if it has not that form."""
    parse: Callable[[str], object] = str
    """Return the variable's text as a value for `read`."""
    secret: bool = False
    """Whether the value must never be shown."""
    blank_is_unset: bool = False


def _checked(settings: type[_T]) -> type[_T]:
    """Raise what ``__init__`` raises without its frame, whose locals hold a secret."""
    fill: Callable[..., None] = settings.__init__

    @wraps(fill)
    def __init__(self: Any, /, **values: Any) -> None:  # noqa: N807 - it becomes the class's
        try:
            fill(self, **values)
        except (SettingsError, TypeError) as error:  # TypeError: no such field
            wrong = error.with_traceback(None)
        else:
            return
        del self, values  # a traceback that prints locals prints no secret
        raise wrong

    settings.__init__ = __init__  # type: ignore[method-assign, assignment]
    return settings


@_checked
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(HoldsSecret):
    """The settings of a provider or a verifier. Immutable; checked when it is made.

    Each field is documented at its variable in `VARIABLES` and in docs/reference.md. White space
    around a value is removed, except around a secret; `allowed_hosts` and `allowed_subjects`
    take texts separated by commas or any iterable of them. A pickled `Settings` leaves its secrets
    behind: they do not belong in a task queue or on a disk.

    Raises:
        SettingsError: A value is malformed.
    """

    secret: str | None = field(default=None, repr=False)
    # Not shown: it may be a secret that was put in the wrong variable.
    secret_file: str | os.PathLike[str] | None = field(default=None, repr=False)
    private_key_file: str | os.PathLike[str] | None = field(default=None, repr=False)
    token_file: str | os.PathLike[str] | None = field(default=None, repr=False)
    issuer: str = "manor-internal"
    audience: str = "service-search-mcp"
    subject: str = _DEFAULT_SUBJECT
    scope: str | None = None
    """Scopes with a space between them."""
    ttl_seconds: int = 3600
    margin_seconds: int = 30
    feature_flag: str = _DEFAULT_FLAG
    clock_skew_seconds: int = 5
    recheck_seconds: float = 1.0
    key_id: str | None = None
    previous_secret: str | None = field(default=None, repr=False)
    previous_secret_file: str | os.PathLike[str] | None = field(default=None, repr=False)
    jwks_file: str | os.PathLike[str] | None = field(default=None, repr=False)
    issued_at: Literal["required", "optional"] = "required"
    allowed_subjects: Iterable[str] | None = None
    """Held as a tuple; None: any subject may call."""
    enforcement: Literal["enforce", "observe"] = "enforce"
    enforcement_flag: str | None = None
    allowed_hosts: Iterable[str] | None = None
    """Held as a tuple."""

    def __post_init__(self) -> None:
        if wrong := _normalise(self):
            raise wrong

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the variables of `environ`, by default the process's, as they are now.

        Raises:
            SettingsError: A variable's value is malformed.
        """
        read = _read(os.environ if environ is None else environ)
        del environ  # a traceback that prints locals prints no secret
        if isinstance(read, SettingsError):
            raise read
        return cls(**read)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all but the secrets."""
        secrets = {variable.field for variable in VARIABLES if variable.secret}
        names = [one.name for one in fields(self) if one.name not in secrets]
        return partial(type(self), **{name: getattr(self, name) for name in names}), ()


_DEFAULTS: Final = {one.name: one.default for one in fields(Settings)}


def _normalise(settings: Settings) -> SettingsError | None:
    """Have each field hold its value in one form; return what is wrong with the first that is."""
    for variable in VARIABLES:
        value = getattr(settings, variable.field)
        if value is _DEFAULTS[variable.field]:
            continue
        read = variable.read(value)
        if read is None:
            return _wrong(variable, value, f"Settings.{variable.field} ({variable.name})")
        object.__setattr__(settings, variable.field, read)
    return None


def _read(environ: Mapping[str, str]) -> dict[str, Any] | SettingsError:
    """Return the fields' values, or what is wrong with the first that is; raise nothing."""
    values: dict[str, Any] = {}
    fallback = {"MCP_AUTH_SUBJECT": trim(environ.get(_SERVICE_NAME, "")) or None}
    for variable in VARIABLES:
        text = environ.get(variable.name, fallback.get(variable.name))
        if text is None:
            continue
        value = variable.read(variable.parse(text))
        if value is not None:
            values[variable.field] = value
        elif trim(text) or not variable.blank_is_unset:
            return _wrong(variable, text, variable.name)
    return values


def flag_and_subject(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the flag's key and the subject, whatever else in the environment is wrong.

    The flag is evaluated before the settings are checked: with a flag that is off, a broken TTL
    is "flag off", not an error.
    """
    flag = trim(environ.get("MCP_AUTH_FEATURE_FLAG", "")) or _DEFAULT_FLAG
    names = ("MCP_AUTH_SUBJECT", _SERVICE_NAME)
    subject = next(filter(None, (trim(environ.get(name, "")) for name in names)), _DEFAULT_SUBJECT)
    return flag, subject


def enforcement_settings(environ: Mapping[str, str]) -> Settings:
    """Return settings with subject, enforcement and its flag, whatever else in `environ` is wrong.

    A server that observes must not begin to refuse calls because of a broken TTL. If one of these
    three is malformed, it has its default: a malformed `MCP_AUTH_ENFORCEMENT` enforces.
    """
    values: dict[str, Any] = {
        "subject": _text(flag_and_subject(environ)[1]),
        "enforcement": _enforcement(environ.get("MCP_AUTH_ENFORCEMENT")),
        "enforcement_flag": _text(environ.get("MCP_AUTH_ENFORCEMENT_FLAG")),
    }
    return Settings(**{name: value for name, value in values.items() if value is not None})


def trim(text: str) -> str:
    """Remove what nobody sees around `text`: white space, a CR, a byte order mark (BOM)."""
    return text.strip().strip("\ufeff\u200b\u2060").strip()


def _wrong(variable: Variable, value: object, name: str) -> SettingsError:
    hidden = variable.secret or variable.read is _path  # a path may be a misplaced secret
    shown = NOT_SHOWN if hidden else _shorten(repr(value))
    return SettingsError(f"{name}={shown} is not {variable.form}", variable=variable.name)


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def _parse_whole_number(text: str) -> int | None:
    return int(digits) if re.fullmatch(r"[0-9]{1,10}", digits := trim(text), re.ASCII) else None


def _parse_number(text: str) -> float | None:
    try:
        return float(trim(text))
    except ValueError:
        return None


def _whole_number_between(low: int, high: int) -> Callable[[Any], int | None]:
    # bool is an int in Python; ttl_seconds=True is a mistake all the same.
    return lambda value: value if type(value) is int and low <= value <= high else None


def _seconds(value: Any) -> float | None:
    # An int may be larger than any float, which the clock's seconds are.
    usable = type(value) in (int, float) and 0 <= value <= sys.float_info.max
    return value if usable else None


def _text(value: Any) -> str | None:
    text = trim(value) if isinstance(value, str) else ""
    # An undecodable byte in the environment arrives as a lone surrogate: no UTF-8, no token.
    return None if not text or re.search("[\ud800-\udfff]", text) else text


def is_scope(value: object) -> bool:
    """Return whether `value` is one scope-token (RFC 6749, section 3.3)."""
    return isinstance(value, str) and _SCOPE.fullmatch(value) is not None


def _scope(value: Any) -> str | None:
    scopes = trim(value).split() if isinstance(value, str) else []
    return " ".join(scopes) if scopes and all(map(is_scope, scopes)) else None


def _secret(value: Any) -> str | None:
    return None if _text(value) is None else value


def _path(value: Any) -> str | None:
    path = _text(os.fspath(value) if isinstance(value, os.PathLike) else value)
    return None if path is None or "\0" in path else path


def _one_of(*words: str) -> Callable[[Any], str | None]:
    def read(value: Any) -> str | None:
        word = trim(value).lower() if isinstance(value, str) else None
        return word if word in words else None

    return read


_enforcement: Final = _one_of("enforce", "observe")


def _subjects(value: Any) -> tuple[str, ...] | None:
    try:
        given = value.split(",") if isinstance(value, str) else value
        subjects = tuple(trim(subject) for subject in given)
        Subjects.of(subjects)
    except (ValueError, TypeError, AttributeError):  # a bad pattern, not iterable, not text
        return None
    return subjects if subjects and all(subjects) else None


def _hosts(value: Any) -> tuple[str, ...] | None:
    try:
        given = value.split(",") if isinstance(value, str) else value
        hosts = tuple(trim(host) for host in given)
        compile_hosts(hosts)
    except (ValueError, TypeError, AttributeError):  # not hosts, not iterable, not text
        return None
    return hosts or None


_TEXT: Final = ("text that is not blank", _text)


def _secret_variable(name: str, field: str) -> Variable:
    form = "text in UTF-8 that is not blank"
    return Variable(name, field, form, _secret, secret=True, blank_is_unset=True)


def _path_variable(name: str, field: str) -> Variable:
    form = "the path of a file"
    return Variable(name, field, form, _path, blank_is_unset=True)


VARIABLES: Final[tuple[Variable, ...]] = (
    _secret_variable("MCP_AUTH_SECRET", "secret"),
    _path_variable("MCP_AUTH_SECRET_FILE", "secret_file"),
    _path_variable("MCP_AUTH_PRIVATE_KEY_FILE", "private_key_file"),
    _path_variable("MCP_AUTH_TOKEN_FILE", "token_file"),
    Variable("MCP_AUTH_ISSUER", "issuer", *_TEXT),
    Variable("MCP_AUTH_AUDIENCE", "audience", *_TEXT),
    Variable("MCP_AUTH_SUBJECT", "subject", *_TEXT),
    Variable(
        "MCP_AUTH_SCOPE",
        "scope",
        "scopes with a space between them, such as search:read search:write",
        _scope,
        blank_is_unset=True,
    ),
    Variable(
        "MCP_AUTH_TTL_SECONDS",
        "ttl_seconds",
        "a whole number of seconds > 0, such as 3600",
        _whole_number_between(1, _TEN_YEARS),
        _parse_whole_number,
    ),
    Variable(
        "MCP_AUTH_MARGIN_SECONDS",
        "margin_seconds",
        "a whole number of seconds >= 0, such as 30",
        _whole_number_between(0, _TEN_YEARS),
        _parse_whole_number,
    ),
    Variable("MCP_AUTH_FEATURE_FLAG", "feature_flag", *_TEXT),
    Variable(
        "MCP_AUTH_CLOCK_SKEW_SECONDS",
        "clock_skew_seconds",
        "a whole number of seconds >= 0, such as 5",
        _whole_number_between(0, _TEN_YEARS),
        _parse_whole_number,
    ),
    Variable(
        "MCP_AUTH_RECHECK_SECONDS",
        "recheck_seconds",
        "a number of seconds >= 0, such as 1 or 0.5",
        _seconds,
        _parse_number,
    ),
    Variable("MCP_AUTH_KEY_ID", "key_id", *_TEXT, blank_is_unset=True),
    _secret_variable("MCP_AUTH_PREVIOUS_SECRET", "previous_secret"),
    _path_variable("MCP_AUTH_PREVIOUS_SECRET_FILE", "previous_secret_file"),
    _path_variable("MCP_AUTH_JWKS_FILE", "jwks_file"),
    Variable(
        "MCP_AUTH_ISSUED_AT",
        "issued_at",
        "required or optional",
        _one_of("required", "optional"),
        blank_is_unset=True,
    ),
    Variable(
        "MCP_AUTH_ALLOWED_SUBJECTS",
        "allowed_subjects",
        "a comma-separated list of subjects, such as service-a,system:serviceaccount:shop:*"
        " (unset it for any)",
        _subjects,
    ),
    Variable(
        "MCP_AUTH_ENFORCEMENT",
        "enforcement",
        "enforce or observe",
        _enforcement,
        blank_is_unset=True,
    ),
    Variable("MCP_AUTH_ENFORCEMENT_FLAG", "enforcement_flag", *_TEXT, blank_is_unset=True),
    Variable(
        "MCP_AUTH_ALLOWED_HOSTS",
        "allowed_hosts",
        "a comma-separated list of hosts, such as mcp.example.com,*.internal (unset it for any)",
        _hosts,
    ),
)
"""Every variable, in the order of the table in docs/reference.md."""
