"""The keys that the settings name: the one to sign with, and those to verify with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.settings import Settings

from .given_token import GivenToken, parse_given
from .jwks import KeySet, parse_jwks
from .private_key import PrivateKey, parse_private_key
from .public_key import PublicKey
from .shared_secret import SharedSecret, form_warnings, parse_secret
from .watched_file import WatchedFile

__all__ = ["Credential", "KeySource", "SigningKey", "VerificationKeys"]

MAX_SECRETS: Final = 8
"""In one file. A rotation needs two; a file with more lines is hardly a file of secrets."""

SOURCES: Final = ("secret", "secret_file", "private_key_file", "token_file")
"""The settings that a token may come from; one of them at a time."""

T = TypeVar("T")

_STRUCTURE: Final = re.compile(r"\A[\s\ufeff]*[{\[]|^-----(?:BEGIN|END) ", re.MULTILINE)

SigningKey = SharedSecret | PrivateKey
Credential = SigningKey | GivenToken
"""What a call's token comes from: a key that signs it here, or a token made elsewhere."""
VerificationKey = SharedSecret | PublicKey


@dataclass(frozen=True, slots=True)
class VerificationKeys(HoldsSecret):
    """The keys whose tokens are accepted: the shared secrets, and the public keys of callers."""

    current: SharedSecret | None
    """None if there are public keys only."""
    previous: tuple[SharedSecret, ...] = ()
    """In the order of their file. The current one may be among them, as the runbook has it."""
    public: KeySet | None = None
    """None if the settings name no JWKS file, or it is not usable."""
    problems: tuple[SettingsError, ...] = field(default=(), compare=False)
    """Why previous secrets or public keys that the settings name are not accepted."""

    @property
    def secrets(self) -> tuple[SharedSecret, ...]:
        """The current secret, and the previous ones that differ from it."""
        current = () if self.current is None else (self.current,)
        known = {key.secret for key in current}
        return (*current, *(key for key in self.previous if key.secret not in known))

    def keys_for(self, algorithm: object, key_id: str | None) -> tuple[VerificationKey, ...] | None:
        """Return the keys that may have signed a token, the likeliest first; None: none ever.

        A key is used with its own algorithm only. That a token names another one excludes the key;
        it never chooses how the key is used.

        Args:
            algorithm: The token's `alg`.
            key_id: Its `kid`.

        Returns:
            None if no key in use has this algorithm, or if the key of that `kid` has another one.
        """
        secrets = self.secrets
        if algorithm == SharedSecret.algorithm and secrets:
            return self._secrets_for(key_id, secrets)
        keys = {} if self.public is None else self.public.keys
        named = keys.get(key_id or "")
        if named is not None:
            return (named,) if named.algorithm == algorithm else None
        return () if any(key.algorithm == algorithm for key in keys.values()) else None

    def _secrets_for(
        self, key_id: str | None, secrets: tuple[SharedSecret, ...]
    ) -> tuple[SharedSecret, ...]:
        """Return `secrets` in the order of their likelihood.

        The `kid` of a secret is a hint (RFC 7515, section 4.1.4) and only sets the order: during a
        rotation, the `kid` of a service may change before its secret does, or after. If the
        settings name a `kid`, an unknown one can only be that of a previous secret: none is
        returned if there is no previous secret.
        """
        current = self.current
        if current is None or key_id is None or current.key_id in (None, key_id):
            return secrets
        others = secrets[1:]
        return (*others, current) if others else ()

    def is_previous(self, key: VerificationKey) -> bool:
        """Return whether `key` is a previous secret."""
        return isinstance(key, SharedSecret) and key is not self.current

    def name_of(self, key: VerificationKey) -> str:
        """Return the `kid` of `key`; ``current`` or ``previous`` for a secret without one."""
        return "previous" if self.is_previous(key) else (key.key_id or "current")

    def warnings(self) -> list[str]:
        """Return what an operator should know about them."""
        secrets = [key for key in (self.current, *self.previous) if key is not None]
        found = [text for key in secrets for text in key.warnings]
        if self.public is not None:
            found += self.public.warnings
        return [*found, *(f"not in use: {problem}" for problem in self.problems)]


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
        token, warning = self._file(settings, "token_file", parse_given).read()
        token.check_audience(settings.audience)
        return token if warning is None else replace(token, warnings=(warning,))

    def signing_key(self, settings: Settings) -> SigningKey:
        """Return the key that signs; raises as `credential` does."""
        self.check_sources(settings)
        if settings.private_key_file is not None:
            return self._private_key(settings)
        key = self._current_secret(settings)
        if key is None:
            raise _none_set("MCP_AUTH_PRIVATE_KEY_FILE, MCP_AUTH_TOKEN_FILE")
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
        given = [*others, *(self._name(name) for name in named)]
        if len(given) > 1:
            raise SettingsError(
                f"{given[0]} and {given[1]} are both set: unset one of them",
                variable=_variable(named[0]),
            )

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
            raise problems[0] if problems else _none_set("MCP_AUTH_JWKS_FILE")
        return VerificationKeys(current, previous, public, tuple(problems))

    def _current_secret(self, settings: Settings) -> SharedSecret | None:
        return self._find(settings, "secret", settings.key_id)

    def _private_key(self, settings: Settings) -> PrivateKey:
        key, warning = self._file(settings, "private_key_file", parse_private_key).read()
        return key if warning is None else replace(key, warnings=(warning,))

    def _public_keys(self, settings: Settings) -> KeySet | None:
        if settings.jwks_file is None:
            return None
        keys, warning = self._file(settings, "jwks_file", parse_jwks).read()
        return keys if warning is None else replace(keys, warnings=(*keys.warnings, warning))

    def _previous(self, settings: Settings) -> tuple[SharedSecret, ...]:
        if settings.previous_secret is not None or settings.previous_secret_file is None:
            key = self._find(settings, "previous_secret", None)
            return () if key is None else (key,)
        file = self._file(settings, "previous_secret_file", parse_secret)
        if file.is_removed():
            file.forget()
            return ()
        whole = _with_warning(*file.read())
        self._check(whole)
        keys = whole.lines()
        # A JWK set or half of a PEM: anybody could guess the secret "{" or "-----BEGIN …".
        if len(keys) > 1 and _STRUCTURE.search(whole.secret):
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
            key = _with_warning(*self._file(settings, from_file, parse_secret).read())
            return self._check(replace(key, key_id=key_id))
        raise SettingsError(
            f"{self._name(name)} and {self._name(from_file)} are both set: unset one of them",
            variable=_variable(name),
        )

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

    def _file(
        self, settings: Settings, name: str, parse: Callable[[str, str], T]
    ) -> WatchedFile[T]:
        # Kept, because a WatchedFile remembers the last good value.
        path = str(getattr(settings, name))
        return self._files.setdefault((name, path), WatchedFile(path, self._name(name), parse))


def _variable(field: str) -> str:
    return f"MCP_AUTH_{field.upper()}"


def _with_warning(key: SharedSecret, warning: str | None) -> SharedSecret:
    return key if warning is None else replace(key, warnings=(*key.warnings, warning))


def _none_set(other: str) -> SettingsError:
    return SettingsError(
        "no secret is set: set MCP_AUTH_SECRET, or MCP_AUTH_SECRET_FILE to a file's path;"
        f" or use keys without a shared secret: {other}",
        variable="MCP_AUTH_SECRET",
        outcome=Outcome.NOT_CONFIGURED,
    )


def _checked(key: SharedSecret) -> SharedSecret:
    """Return `key` with warnings about its form; raise SettingsError if it is asymmetric."""
    from .jws import is_asymmetric_key  # imports PyJWT, which is not needed if the flag is off

    if is_asymmetric_key(key):
        raise _asymmetric(key)
    return replace(key, warnings=form_warnings(key))


def _asymmetric(key: SharedSecret) -> SettingsError:
    return SettingsError(
        f"{key.source} holds a PEM, ssh or JWK key; HS256 takes a shared secret: random text",
        variable=key.source.partition(" ")[0],
    )
