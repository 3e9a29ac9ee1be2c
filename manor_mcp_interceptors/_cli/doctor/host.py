"""What this host decides from, as the checks need it: the one reader of `Explanation`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from manor_mcp_interceptors._decision.configuration import CredentialOrProblem
from manor_mcp_interceptors._flags.gates import FlagAnswer, variable_names
from manor_mcp_interceptors._keys.keys import Credential, KeySource
from manor_mcp_interceptors._keys.verification_keys import VerificationKeys
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.provider import MCPTokenProvider
from manor_mcp_interceptors.settings import VARIABLES, Settings


@dataclass(frozen=True, slots=True)
class Host:
    """The configuration of this host, as of one decision."""

    provider: MCPTokenProvider
    given: Settings | None
    """The settings that the application made in code; None: they come from the environment."""
    settings: Settings
    """The configured settings, without the variables that are wrong."""
    token_settings: Settings
    """The same with the audience of the calls."""
    problem: SettingsError | None
    """Why the settings cannot be used."""
    warnings: tuple[str, ...]
    flag: str
    """The flag's key."""
    subject: str
    answer: FlagAnswer
    """The flag's answer."""
    gate: str
    """The name of the gate that answers."""
    token_source: str | None
    """The name of the token source in code; None if there is none."""
    _given: CredentialOrProblem = field(repr=False)
    _keys: KeySource = field(repr=False)

    @classmethod
    def of(cls, provider: MCPTokenProvider) -> Host:
        """Have `provider` decide, and return what it decided from."""
        explanation = provider.explain()
        snapshot, audience = explanation.snapshot, explanation.audience
        settings = _usable_settings() if explanation.given is None else explanation.given
        return cls(
            provider=provider,
            given=explanation.given,
            settings=settings,
            token_settings=settings if audience is None else replace(settings, audience=audience),
            problem=snapshot.error,
            warnings=tuple(snapshot.warnings()),
            flag=snapshot.question.key.strip(),
            subject=snapshot.question.subject,
            answer=explanation.answer,
            gate=explanation.gate,
            token_source=explanation.token_source,
            _given=explanation.credential,
            _keys=explanation.keys,
        )

    @property
    def flag_variable(self) -> str:
        """The environment variable for the flag that every shell can export."""
        return variable_names(self.flag)[-1]

    def credential(self) -> Credential | None:
        """Return what the tokens come from; None if a token source in code was not asked.

        Raises:
            SettingsError: There is no usable key or token.
            ImportError: PyJWT, which checks the key's form, cannot be imported.
        """
        if self.token_source is None:
            return self._keys.credential(self.token_settings)
        if isinstance(self._given, SettingsError):
            raise self._given
        return self._given

    def verification_keys(self) -> VerificationKeys:
        """Return the keys whose tokens are accepted; raises as `credential` does."""
        return self._keys.verification_keys(self.settings)

    def names_accepted_keys(self) -> bool:
        """Return whether the settings name a key whose tokens are accepted."""
        named = (self.settings.secret, self.settings.secret_file, self.settings.jwks_file)
        return any(one is not None for one in named)

    def accepted_keys(self) -> VerificationKeys | None:
        """As `verification_keys`; None if the settings name no such key, or none is usable."""
        try:
            return self.verification_keys() if self.names_accepted_keys() else None
        except (SettingsError, ImportError):
            return None

    def can_verify(self) -> bool:
        """Return whether a server with this configuration could accept a token."""
        try:
            self.verification_keys()
        except (SettingsError, ImportError):
            return False
        return self.problem is None


def environment(*names: str) -> Mapping[str, str]:
    """Return the variables with these names that are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


def _usable_settings() -> Settings:
    usable = dict(environment("SERVICE_NAME"))
    for variable in VARIABLES:
        one = environment(variable.name)
        try:
            Settings.from_env(one)
        except SettingsError:
            continue
        usable |= one
    return Settings.from_env(usable)
