"""The keys that the settings name: the one to sign with, and those to verify with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.outcomes import Outcome
from manor_mcp_interceptors.settings import Settings

from .secret_file import SecretFile
from .signing_key import SigningKey, form_warnings

__all__ = ["KeySource", "SigningKey", "VerificationKeys"]


@dataclass(frozen=True, slots=True)
class VerificationKeys(HoldsSecret):
    """The secrets whose tokens are accepted: the current one, and one being retired."""

    current: SigningKey
    previous: SigningKey | None
    problem: SettingsError | None = field(default=None, compare=False)
    """Why there is no previous secret although the settings name one."""

    def keys_for(self, key_id: str | None) -> tuple[SigningKey, ...]:
        """Return the keys that may have signed a token; none for an unknown `kid`.

        The previous secret's `kid` has no setting: it is any that is not the current one. If the
        settings name no `kid`, or the token has none, both are tried.
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

        A previous secret that is not usable leaves the current one in use; `problem` says what is
        wrong with it. A previous secret's file that is missing or empty is no problem: that is
        how a rotation ends.

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
            return VerificationKeys(current, None, error)

    def _previous(self, settings: Settings) -> SigningKey | None:
        if settings.previous_secret is None and settings.previous_secret_file is not None:
            file = self._file(settings, "previous_secret_file")
            if file.is_removed():
                file.forget()
                return None
        return self._find(settings, "previous_secret", None)

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
        raise SettingsError(
            f"{key.source} holds a PEM, ssh or JWK key; HS256 takes a shared secret: random text",
            variable=key.source.partition(" ")[0],
        )
    return replace(key, warnings=form_warnings(key))
