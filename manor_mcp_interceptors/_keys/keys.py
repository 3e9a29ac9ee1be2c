"""The keys that the settings name: the one to sign with, and those to verify with."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Final

from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.settings import Settings

from .secret_file import SecretFile, SigningKey

__all__ = ["KeySource", "SecretFile", "SigningKey", "VerificationKeys"]

MIN_SECRET_BYTES: Final = 32
"""RFC 7518, section 3.2: an HS256 key has at least the size of its hash."""


@dataclass(frozen=True, slots=True)
class VerificationKeys:
    """The secrets whose tokens are accepted: the current one, and one being retired."""

    current: SigningKey
    previous: SigningKey | None
    problem: SettingsError | None = field(default=None, compare=False)
    """Why there is no previous secret although the settings name one."""

    def keys_for(self, key_id: str | None) -> tuple[SigningKey, ...]:
        """Return the keys that may have signed a token; none for an unknown `kid`.

        The previous secret's `kid` has no setting of its own: it is any that is not the current
        one. Where the settings name no `kid`, or the token has none, both are tried.
        """
        current, previous = self.current, self.previous
        retired = () if previous is None else (previous,)
        if key_id is None or current.key_id is None:
            return (current, *retired)
        return (current,) if key_id == current.key_id else retired

    def warnings(self) -> list[str]:
        """Return what an operator should know about them."""
        previous = () if self.previous is None else self.previous.warnings
        problem = [] if self.problem is None else [f"no previous secret: {self.problem}"]
        return [*self.current.warnings, *previous, *problem]


class KeySource:
    """Reads the keys that the settings name. Threads may share it."""

    def __init__(self, *, in_code: bool = False) -> None:
        """Take whether the settings were made in code; messages then name the field."""
        self._in_code = in_code
        self._files: dict[tuple[str, str], SecretFile] = {}
        self._judged: dict[str, SigningKey] = {}

    def signing_key(self, settings: Settings) -> SigningKey:
        """Return the current signing key.

        Raises:
            SettingsError: There is no usable secret; its `outcome` tells missing from wrong.
            ImportError: PyJWT, which judges the secret's form, cannot be imported.
        """
        key = self._find(settings, "secret", settings.key_id)
        if key is None:
            raise SettingsError(
                "no secret is set: set MCP_AUTH_SECRET, or MCP_AUTH_SECRET_FILE to a file's path",
                variable="MCP_AUTH_SECRET",
                outcome=Outcome.NOT_CONFIGURED,
            )
        return self._judge(key)

    def verification_keys(self, settings: Settings) -> VerificationKeys:
        """Return the secrets whose tokens are accepted now.

        A previous secret that is no use does not take the current one with it: the answer says
        what is wrong with it. A previous secret's file that is gone or empty is no problem: that
        is how a rotation ends.

        Raises:
            SettingsError: There is no usable current secret.
        """
        # The current one first. A rotation writes the old secret to the previous place before it
        # writes the new one: read in this order, the two never miss the secret in between.
        current = self.signing_key(settings)
        try:
            return VerificationKeys(current, self._previous(settings))
        except SettingsError as error:
            return VerificationKeys(current, None, error)

    def _previous(self, settings: Settings) -> SigningKey | None:
        path = settings.previous_secret_file
        if settings.previous_secret is None and path is not None:
            variable = self._name("previous_secret_file")
            if self._file(path, variable).is_removed():
                # Its last good secret goes as well; another thread may have seen to it by now.
                self._files.pop((variable, os.fspath(path)), None)
                return None
        key = self._find(settings, "previous_secret", None)
        return None if key is None else self._judge(key)

    def _find(self, settings: Settings, name: str, key_id: str | None) -> SigningKey | None:
        """Return the secret that is set, as text or as a file; None where neither is."""
        path = getattr(settings, f"{name}_file")
        if getattr(settings, name) is None:
            if path is None:
                return None
            return self._file(path, self._name(f"{name}_file")).read(key_id)
        if path is not None:
            variable = f"MCP_AUTH_{name.upper()}"
            raise SettingsError(
                f"{variable} and {variable}_FILE are both set: unset one of them",
                variable=variable,
            )
        return SigningKey(getattr(settings, name), key_id, self._name(name))

    def _judge(self, key: SigningKey) -> SigningKey:
        """Return `key` with warnings about its form; judged once, since that takes a while."""
        known = self._judged.get(key.source)
        if known is None or known.secret != key.secret:
            refuse_asymmetric(key)
        judged = replace(key, warnings=(*_warnings(key), *key.warnings))
        if known == judged and known.warnings == judged.warnings:
            return known  # reuse the object so that all audiences share it
        self._judged[key.source] = judged
        return judged

    def _name(self, field_name: str) -> str:
        return f"Settings.{field_name}" if self._in_code else f"MCP_AUTH_{field_name.upper()}"

    def _file(self, path: str | os.PathLike[str], variable: str) -> SecretFile:
        # Kept, because a SecretFile remembers the last good secret.
        name = (variable, os.fspath(path))
        return self._files.setdefault(name, SecretFile(path, variable))


def refuse_asymmetric(key: SigningKey) -> None:
    """Raise SettingsError where `key` is a PEM, ssh or JWK key, which is no shared secret."""
    from .hs256 import is_asymmetric_key  # PyJWT is imported only where a token is near

    if is_asymmetric_key(key):
        raise SettingsError(
            f"{key.source} holds a PEM, ssh or JWK key; HS256 takes a shared secret: random text",
            variable=key.source.partition(" ")[0],
        )


def _warnings(key: SigningKey) -> list[str]:
    warnings = []
    size = len(key.secret.encode())
    if size < MIN_SECRET_BYTES:
        warnings.append(
            f"{key.source} is {size} bytes long; HS256 asks for at least {MIN_SECRET_BYTES}"
            " (RFC 7518, section 3.2)"
        )
    if key.secret != key.secret.strip():
        warnings.append(f"{key.source} begins or ends with white space, taken as part of it")
    return warnings
