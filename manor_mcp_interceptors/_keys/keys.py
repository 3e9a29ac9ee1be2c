"""Read the keys that the settings name: the one to sign with, and those to verify with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.settings import Settings

from .given_token import GivenToken, parse_token_file
from .shared_secret import SharedSecret, form_warnings, parse_secret
from .watched_file import WatchedFile

if TYPE_CHECKING:
    from .jwks import KeySet
    from .private_key import PrivateKey
    from .verification_keys import VerificationKeys

__all__ = ["Credential", "KeySource", "SigningKey"]

MAX_SECRETS: Final = 8
"""In one file. A rotation needs two; a file with more lines is hardly a file of secrets."""

SOURCES: Final = ("secret", "secret_file", "private_key_file", "token_file")
"""The settings that a token may come from; one of them at a time."""

T = TypeVar("T")
Value = TypeVar("Value", SharedSecret, "PrivateKey", "KeySet", GivenToken)

_JSON: Final = re.compile(r"[\s\ufeff]*[{\[]")
_PEM: Final = re.compile(r"^-----(?:BEGIN|END) ", re.MULTILINE)
"""Anybody could guess a secret that is one line of a JWK set or of a PEM."""

SigningKey: TypeAlias = "SharedSecret | PrivateKey"
Credential: TypeAlias = "SigningKey | GivenToken"
"""What a call's token comes from: a key that signs it here, or a token made elsewhere."""


class KeySource(HoldsSecret):
    """Reads the keys that the settings name. Threads may share it."""

    def __init__(self, *, in_code: bool = False) -> None:
        """Take whether the settings were made in code; messages then name the field."""
        self._in_code = in_code
        self._files: dict[tuple[str, str], WatchedFile[Any]] = {}
        self._checked: dict[str, SharedSecret] = {}

    def credential(self, settings: Settings) -> Credential:
        """Return the key that signs, or the token that is sent.

        Raises:
            SettingsError: No usable key or token; its `outcome` is `NOT_CONFIGURED` if none is set.
            ImportError: PyJWT, which checks the key's form, cannot be imported.
        """
        if settings.token_file is None:
            return self.signing_key(settings)
        self.check_sources(settings)
        token = self._read(settings, "token_file", parse_token_file)
        token.check_audience(settings.audience)
        return token

    def signing_key(self, settings: Settings) -> SigningKey:
        """Return the key that signs; raises as `credential` does."""
        self.check_sources(settings)
        if settings.private_key_file is not None:
            return self._private_key(settings)
        key = self._current_secret(settings)
        if key is None:
            raise self._none_set("private_key_file", "token_file")
        return key

    def check_sources(self, settings: Settings, *others: str) -> None:
        """Check that tokens come from one source.

        Args:
            settings: They may name some.
            others: The names of sources that are set beside the settings.

        Raises:
            SettingsError: There are several.
        """
        named = [name for name in SOURCES if getattr(settings, name) is not None]
        if len(others) + len(named) > 1:
            one, other, *_ = [*others, *map(self._name, named)]
            raise _both_set(one, other, _variable(named[0]))

    def verification_keys(self, settings: Settings) -> VerificationKeys:
        """Return the keys whose tokens are accepted now.

        The file of the previous secret may hold several, one a line. Previous secrets or public
        keys that are not usable leave the others in use; `problems` says what is wrong with them.
        A file of previous secrets that is missing or empty is no problem: that is how a rotation
        ends.

        Raises:
            SettingsError: There is neither a current secret nor a JWKS file that is usable; its
                `outcome` is `NOT_CONFIGURED` if none is set.
            ImportError: PyJWT cannot be imported.
        """
        from .verification_keys import VerificationKeys  # callers do not need it

        problems: list[SettingsError] = []

        def read(part: Callable[[Settings], T | None]) -> T | None:
            try:
                return part(settings)
            except SettingsError as error:
                problems.append(error)
                return None

        # The current one first. A rotation writes the old secret to the previous place before it
        # writes the new one: read in this order, the two never miss the secret in between.
        current = read(self._current_secret)
        previous = read(self._previous) or ()
        public = read(self._public_keys)
        if current is None and public is None:
            raise problems[0] if problems else self._none_set("jwks_file")
        return VerificationKeys(current, previous, public, tuple(problems))

    def _current_secret(self, settings: Settings) -> SharedSecret | None:
        return self._find(settings, "secret", settings.key_id)

    def _private_key(self, settings: Settings) -> PrivateKey:
        from .private_key import parse_private_key  # few processes need it

        return self._read(settings, "private_key_file", parse_private_key)

    def _public_keys(self, settings: Settings) -> KeySet | None:
        if settings.jwks_file is None:
            return None
        from .jwks import parse_jwks  # few processes need it

        return self._read(settings, "jwks_file", parse_jwks)

    def _previous(self, settings: Settings) -> tuple[SharedSecret, ...]:
        if settings.previous_secret is not None or settings.previous_secret_file is None:
            key = self._find(settings, "previous_secret", None)
            return () if key is None else (key,)
        file = self._file(settings, "previous_secret_file", parse_secret)
        if file.is_removed():
            file.forget()
            return ()
        whole = self._read(settings, "previous_secret_file", parse_secret)
        self._check(whole)
        keys = whole.lines()
        if len(keys) > 1 and (_JSON.match(whole.secret) or _PEM.search(whole.secret)):
            raise _asymmetric(whole)
        if len(keys) > MAX_SECRETS:
            raise SettingsError(
                f"{whole.source} holds {len(keys)} lines; it takes {MAX_SECRETS} secrets at most",
                variable=whole.source.partition(" ")[0],
            )
        return tuple(self._check(key) for key in keys)

    def _find(self, settings: Settings, name: str, key_id: str | None) -> SharedSecret | None:
        """Return the secret that is set, as text or as a file; None if neither is.

        No local here holds the text or the path: a traceback that prints locals shows neither.
        """
        from_file = f"{name}_file"
        if getattr(settings, from_file) is None:
            if getattr(settings, name) is None:
                return None
            return self._check(SharedSecret(getattr(settings, name), key_id, self._name(name)))
        if getattr(settings, name) is None:
            key = self._read(settings, from_file, parse_secret)
            return self._check(replace(key, key_id=key_id))
        raise _both_set(self._name(name), self._name(from_file), _variable(name))

    def _check(self, key: SharedSecret) -> SharedSecret:
        """Return `key` with warnings about its form, which is checked once for all audiences."""
        checked = self._checked.get(key.source)
        if checked != key:
            checked = self._checked[key.source] = _checked(key)
        if not key.warnings:
            return checked
        return replace(checked, warnings=(*checked.warnings, *key.warnings))

    def _name(self, name: str) -> str:
        return f"Settings.{name}" if self._in_code else _variable(name)

    def _read(self, settings: Settings, name: str, parse: Callable[[str, str], Value]) -> Value:
        """Return what is in the file; its warnings say if it is the last good one."""
        value: Value
        value, warning = self._file(settings, name, parse).read()
        return value if warning is None else replace(value, warnings=(*value.warnings, warning))

    def _none_set(self, *others: str) -> SettingsError:
        name = self._name
        return SettingsError(
            f"no secret is set: set {name('secret')}, or {name('secret_file')} to a file's path;"
            f" or use keys without a shared secret: {', '.join(map(name, others))}",
            variable="MCP_AUTH_SECRET",
            outcome=Outcome.NOT_CONFIGURED,
        )

    def _file(
        self, settings: Settings, name: str, parse: Callable[[str, str], T]
    ) -> WatchedFile[T]:
        # Kept, because a WatchedFile remembers the last good value.
        path = str(getattr(settings, name))
        return self._files.setdefault((name, path), WatchedFile(path, self._name(name), parse))


def _variable(field: str) -> str:
    return f"MCP_AUTH_{field.upper()}"


def _both_set(one: str, other: str, variable: str) -> SettingsError:
    return SettingsError(f"{one} and {other} are both set: unset one of them", variable=variable)


def _checked(key: SharedSecret) -> SharedSecret:
    """Return `key` with warnings about its form; raise SettingsError if it is asymmetric."""
    from .jws import is_asymmetric_key  # imports PyJWT, which is not needed if the flag is off

    if is_asymmetric_key(key) or _PEM.search(key.secret):
        raise _asymmetric(key)
    return replace(key, warnings=form_warnings(key))


def _asymmetric(key: SharedSecret) -> SettingsError:
    return SettingsError(
        f"{key.source} holds a PEM, ssh or JWK key; HS256 takes a shared secret: random text."
        " MCP_AUTH_PRIVATE_KEY_FILE takes the file of a private key",
        variable=key.source.partition(" ")[0],
    )
