"""The keys that the settings name: the one to sign with, and those to verify with."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.settings import Settings

from .secret_file import SecretFile
from .signing_key import SigningKey, form_warnings

__all__ = ["KeySource", "SigningKey", "VerificationKeys"]

MAX_SECRETS: Final = 8
"""In one file. A rotation needs two; a file with more lines is hardly a file of secrets."""

_STRUCTURE: Final = re.compile(r"\A[\s\ufeff]*[{\[]|^-----(?:BEGIN|END) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class VerificationKeys(HoldsSecret):
    """The secrets whose tokens are accepted: the current one, and others during a rotation."""

    current: SigningKey
    previous: tuple[SigningKey, ...] = ()
    """In the order of their file. The current one may be among them, as the runbook has it."""
    problem: SettingsError | None = field(default=None, compare=False)
    """Why there is no previous secret although the settings name one."""

    @property
    def others(self) -> tuple[SigningKey, ...]:
        """The previous ones that are not the current one."""
        return tuple(key for key in self.previous if key.secret != self.current.secret)

    def keys_for(self, key_id: str | None) -> tuple[SigningKey, ...]:
        """Return the keys that may have signed a token, the likeliest first.

        A `kid` is a hint (RFC 7515, section 4.1.4) and only sets the order: during a rotation,
        the `kid` of a service may change before its secret does, or after. If the settings name a
        `kid`, an unknown one can only be that of a previous secret: none is returned if there is
        no previous secret.
        """
        current, others = self.current, self.others
        if key_id is None or current.key_id in (None, key_id):
            return (current, *others)
        return (*others, current) if others else ()

    def name_of(self, key: SigningKey) -> str:
        """Return ``previous``, or the `kid` of the current key, or ``current`` if it has none."""
        return (key.key_id or "current") if key is self.current else "previous"

    def warnings(self) -> list[str]:
        """Return what an operator should know about them."""
        previous = [text for key in self.previous for text in key.warnings]
        problem = [] if self.problem is None else [f"no previous secret: {self.problem}"]
        return [*self.current.warnings, *previous, *problem]


class KeySource(HoldsSecret):
    """Reads the keys that the settings name. Threads may share it."""

    def __init__(self, *, in_code: bool = False) -> None:
        """Take whether the settings were made in code; messages then name the field."""
        self._in_code = in_code
        self._files: dict[tuple[str, str], SecretFile] = {}
        self._checked: dict[str, SigningKey] = {}

    def signing_key(self, settings: Settings) -> SigningKey:
        """Return the current signing key.

        Raises:
            SettingsError: No usable secret; its `outcome` is `NOT_CONFIGURED` if none is set.
            ImportError: PyJWT, which checks the secret's form, cannot be imported.
        """
        key = self._find(settings, "secret", settings.key_id)
        if key is None:
            raise SettingsError(
                "no secret is set: set MCP_AUTH_SECRET, or MCP_AUTH_SECRET_FILE to a file's path",
                variable="MCP_AUTH_SECRET",
                outcome=Outcome.NOT_CONFIGURED,
            )
        return key

    def verification_keys(self, settings: Settings) -> VerificationKeys:
        """Return the secrets whose tokens are accepted now.

        The file of the previous secret may hold several, one a line. A previous secret that is not
        usable leaves the current one in use; `problem` says what is wrong with it. A file that is
        missing or empty is no problem: that is how a rotation ends.

        Raises:
            SettingsError: There is no usable current secret.
            ImportError: PyJWT cannot be imported.
        """
        # The current one first. A rotation writes the old secret to the previous place before it
        # writes the new one: read in this order, the two never miss the secret in between.
        current = self.signing_key(settings)
        try:
            return VerificationKeys(current, self._previous(settings))
        except SettingsError as error:
            return VerificationKeys(current, problem=error)

    def _previous(self, settings: Settings) -> tuple[SigningKey, ...]:
        if settings.previous_secret is not None or settings.previous_secret_file is None:
            key = self._find(settings, "previous_secret", None)
            return () if key is None else (key,)
        file = self._file(settings, "previous_secret_file")
        if file.is_removed():
            file.forget()
            return ()
        whole = file.read(None)
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

    def _find(self, settings: Settings, name: str, key_id: str | None) -> SigningKey | None:
        """Return the secret that is set, as text or as a file; None if neither is.

        No local here holds the text or the path: a traceback that prints locals shows neither.
        """
        from_file = f"{name}_file"
        if getattr(settings, from_file) is None:
            if getattr(settings, name) is None:
                return None
            return self._check(SigningKey(getattr(settings, name), key_id, self._name(name)))
        if getattr(settings, name) is None:
            return self._check(self._file(settings, from_file).read(key_id))
        raise SettingsError(
            f"{self._name(name)} and {self._name(from_file)} are both set: unset one of them",
            variable=f"MCP_AUTH_{name.upper()}",
        )

    def _check(self, key: SigningKey) -> SigningKey:
        """Return `key` with warnings about its form, which is checked once for all audiences."""
        checked = self._checked.get(key.source)
        if checked != key:
            checked = self._checked[key.source] = _checked(key)
        if not key.warnings:
            return checked
        return replace(checked, warnings=(*checked.warnings, *key.warnings))

    def _name(self, name: str) -> str:
        return f"Settings.{name}" if self._in_code else f"MCP_AUTH_{name.upper()}"

    def _file(self, settings: Settings, name: str) -> SecretFile:
        # Kept, because a SecretFile remembers the last good secret.
        path = str(getattr(settings, name))
        return self._files.setdefault((name, path), SecretFile(path, self._name(name)))


def _checked(key: SigningKey) -> SigningKey:
    """Return `key` with warnings about its form; raise SettingsError if it is asymmetric."""
    from .hs256 import is_asymmetric_key  # imports PyJWT, which is not needed if the flag is off

    if is_asymmetric_key(key):
        raise _asymmetric(key)
    return replace(key, warnings=form_warnings(key))


def _asymmetric(key: SigningKey) -> SettingsError:
    return SettingsError(
        f"{key.source} holds a PEM, ssh or JWK key; HS256 takes a shared secret: random text",
        variable=key.source.partition(" ")[0],
    )
