"""The runbooks of a rotation, step by step, on mounted files: no token is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from manor_mcp_interceptors import MCPTokenProvider, Settings, TokenRejectedError, TokenVerifier
from tests.soak.mounted import Mount, Rotation
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


class DualService:
    """Server and caller at once: one current secret for both."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.mount = Mount(folder)
        self.files = {"current": SECRET, "previous": ""}
        self.mount.swap(**self.files)
        settings = Settings(
            secret_file=self.mount.path("current"),
            previous_secret_file=self.mount.path("previous"),
            recheck_seconds=RECHECK,
        )
        self.provider = MCPTokenProvider(settings, gate=StaticGate(), clock=clock)
        self.verifier = TokenVerifier(settings, clock=clock)

    def write(self, **files: str) -> None:
        self.files |= files
        self.mount.swap(**self.files)


@pytest.fixture
def fleet(tmp_path: Path, clock: FakeClock) -> list[DualService]:
    """Return three services that call each other."""
    return [DualService(tmp_path / name, clock) for name in "abc"]


def everybody_calls(fleet: list[DualService], clock: FakeClock) -> None:
    """Call from each to each, before and after everybody has read the files again."""
    for _ in range(3):
        for caller in fleet:
            for server in fleet:
                server.verifier.verify(str(caller.provider.token()))
        clock.advance(RECHECK / 2)


def test_the_order_for_two_roles_refuses_between_dual_services(
    fleet: list[DualService], clock: FakeClock
) -> None:
    """Its first step has A sign with the new secret, which B does not accept yet."""
    everybody_calls(fleet, clock)
    fleet[0].write(previous=SECRET, current=OTHER_SECRET)
    with pytest.raises(TokenRejectedError, match="signature"):
        everybody_calls(fleet, clock)


STEPS: list[dict[str, str]] = [
    {"previous": f"{SECRET}\n{OTHER_SECRET}"},
    {"current": OTHER_SECRET},
    {"previous": ""},
]
"""The runbook of docs/rotation.md: each step changes one file."""


@pytest.mark.parametrize("seed", range(5))
def test_the_runbook_refuses_nothing_in_any_order_of_services(
    fleet: list[DualService], clock: FakeClock, seed: int
) -> None:
    """A step is complete everywhere before the next; within it the order does not matter."""
    order = random.Random(seed)
    for step in STEPS:
        for service in order.sample(fleet, len(fleet)):
            service.write(**step)
            everybody_calls(fleet, clock)
    assert all(service.verifier.rejections() == {} for service in fleet)
    old = MCPTokenProvider(Settings(secret=SECRET), gate=StaticGate(), clock=clock).token()
    for service in fleet:
        with pytest.raises(TokenRejectedError, match="signature"):
            service.verifier.verify(str(old))


@pytest.mark.parametrize("jump", [(0, 2), (1, 0), (2, 1)], ids=["to 2", "back to 0", "back to 1"])
def test_two_neighbouring_steps_get_along(
    fleet: list[DualService], clock: FakeClock, jump: tuple[int, int]
) -> None:
    """A step may be taken back; only steps 0 and 2 beside each other refuse."""
    states = [{"current": SECRET, "previous": ""}, STEPS[0] | {"current": SECRET}]
    states.append(STEPS[0] | {"current": OTHER_SECRET})
    before, after = jump
    for service in fleet:
        service.write(**states[before])
    clock.advance(RECHECK)
    everybody_calls(fleet, clock)
    fleet[0].write(**states[after])
    if abs(before - after) == 1:
        everybody_calls(fleet, clock)
        return
    with pytest.raises(TokenRejectedError, match="signature"):
        everybody_calls(fleet, clock)
