"""The runbook of docs/rotation.md, step by step, on mounted files: no token is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, TokenRejectedError, TokenVerifier
from tests.soak.mounted import Rotation
from tests.support import OTHER_SECRET, SECRET, FakeClock, StaticGate

RECHECK = 1.0


class Services:
    """A few signers and verifiers that were started at different times, so look at other ones."""

    def __init__(self, rotation: Rotation, clock: FakeClock) -> None:
        self.clock = clock
        self.tokens: set[str] = set()
        signer = Settings(secret_file=rotation.signers.path("current"), recheck_seconds=RECHECK)
        verifier = Settings(
            secret_file=rotation.verifiers.path("current"),
            previous_secret_file=rotation.verifiers.path("previous"),
            recheck_seconds=RECHECK,
        )
        self.signers, self.verifiers = [], []
        for _ in range(3):
            self.signers.append(MCPTokenProvider(signer, gate=StaticGate(), clock=clock))
            self.verifiers.append(TokenVerifier(verifier, clock=clock))
            self.call()
            clock.advance(0.3)

    def call(self) -> None:
        """Send a token from each to each."""
        for signer in self.signers:
            token = signer.token()
            assert token is not None
            self.tokens.add(token)
            for verifier in self.verifiers:
                verifier.verify(token)

    def run(self, seconds: float) -> None:
        """Call all the time, for so long."""
        for _ in range(int(seconds * 10)):
            self.call()
            self.clock.advance(0.1)


def test_verifiers_first_and_nothing_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    """Each step waits until everybody has looked; every signer ends up with the new secret."""
    rotation = Rotation(tmp_path)
    services = Services(rotation, clock)
    services.run(2)
    for _ in range(3):
        before = set(services.tokens)
        rotation.teach_verifiers()
        services.run(2 * RECHECK)
        assert services.tokens == before
        rotation.switch_signers()
        services.run(2 * RECHECK)
        assert len(services.tokens - before) >= 1
        services.tokens = {str(signer.token()) for signer in services.signers}
    assert all(verifier.rejections() == {} for verifier in services.verifiers)


def test_signers_first_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    """The order is the point of the runbook."""
    rotation = Rotation(tmp_path)
    services = Services(rotation, clock)
    rotation.signers.swap(current="a secret that the verifiers do not know yet")
    with pytest.raises(TokenRejectedError, match="signature"):
        services.run(2 * RECHECK)


def test_the_old_secret_is_refused_once_it_is_retired(tmp_path: Path, clock: FakeClock) -> None:
    """Two rotations on, a token of the first secret is worth nothing."""
    rotation = Rotation(tmp_path)
    services = Services(rotation, clock)
    old = services.signers[0].token()
    assert old is not None
    for _ in range(2):
        rotation.teach_verifiers()
        services.run(2 * RECHECK)
        rotation.switch_signers()
        services.run(2 * RECHECK)
    with pytest.raises(TokenRejectedError, match="signature"):
        services.verifiers[0].verify(old)


@pytest.mark.parametrize(
    "blank", ["", "\n", " \r\n", None], ids=["empty", "newline", "blank", "gone"]
)
def test_a_previous_file_with_nothing_in_it_retires_the_old_secret(
    tmp_path: Path, clock: FakeClock, blank: str | None
) -> None:
    """Step 3, however it is done: ``echo > previous`` leaves a newline. From the start, too."""
    current, previous = tmp_path / "current", tmp_path / "previous"
    current.write_text(SECRET)
    previous.write_text(OTHER_SECRET)
    old = Settings(secret=OTHER_SECRET)
    token = str(MCPTokenProvider(old, gate=StaticGate(), clock=clock).token())
    settings = Settings(secret_file=current, previous_secret_file=previous)
    verifier = TokenVerifier(settings, clock=clock)
    assert verifier.verify(token)
    if blank is None:
        previous.unlink()
    else:
        previous.write_text(blank, newline="")
    clock.advance(RECHECK)
    for each in (verifier, TokenVerifier(settings, clock=clock)):
        with pytest.raises(TokenRejectedError, match="signature"):
            each.verify(token)
