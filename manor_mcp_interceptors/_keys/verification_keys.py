"""The keys whose tokens a verifier accepts, and which of them may have signed a token."""

from __future__ import annotations

from dataclasses import dataclass, field

from manor_mcp_interceptors._secrecy import HoldsSecret
from manor_mcp_interceptors.errors import SettingsError

from .jwks import KeySet
from .public_key import PublicKey
from .shared_secret import SharedSecret

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
            None if no key in use has this algorithm, or if the key of that `kid` has another one;
            empty if no key in use has that `kid`.
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
