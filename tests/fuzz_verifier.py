"""Throw mutated tokens and headers at the verifier: ``python -m tests.fuzz_verifier --inputs N``.

Nothing but the unmutated token may be accepted, nothing but a refusal may come out, and no input
may take longer than `LIMIT_SECONDS`. The seed is printed, and makes a run repeatable.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import gc
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors.server.verifier import Reason, VerifiedToken, verification_of
from tests.server.forging import b64, claims, forge
from tests.support import OTHER_SECRET, SECRET, FakeClock

LIMIT_SECONDS: Final = 0.005
MAX_FAILURES: Final = 10
GOOD: Final = forge(claims())
HEAD, PAYLOAD, SIGNATURE = GOOD.split(".")
OTHERS: Final = (
    forge(claims(), secret=OTHER_SECRET),
    forge(claims(exp=1)),
    forge(claims(aud="other-mcp")),
    forge(claims(), header={"alg": "none"}),
    forge("[" * 2000),
    forge(claims(padding="x" * 5000), secret=OTHER_SECRET),
)
HEADERS: Final = (
    {"alg": "none"},
    {"alg": "HS256", "kid": "x"},
    {"alg": "HS256", "crit": ["exp"]},
    {"alg": "HS256", "b64": False, "crit": ["b64"]},
)
PIECES: Final = (
    *" .=-_,;:\"'\\/+\t\r\n\x00",
    *("..", "==", "\ud800", "\u00e9", "\U0001f600", "\u202e", "\u200b", "eyJ", "Bearer ", "null"),
)
SCHEMES: Final = ("Bearer", "bearer", "Basic", "Bearer Bearer", "Bearer:", "", "B\u00e9arer")

Mutation = Callable[[str, random.Random], str]


def replaced(token: str, dice: random.Random) -> str:
    at = dice.randrange(len(token) + 1)
    return token[:at] + chr(dice.randrange(32, 127)) + token[at + 1 :]


def inserted(token: str, dice: random.Random) -> str:
    at = dice.randrange(len(token) + 1)
    piece: str = dice.choice(PIECES)
    return token[:at] + piece * dice.choice((1, 1, 2, 50)) + token[at:]


def cut(token: str, dice: random.Random) -> str:
    start, end = sorted(dice.randrange(len(token) + 1) for _ in range(2))
    return token[:start] + token[end:]


def repeated(token: str, dice: random.Random) -> str:
    start, end = sorted(dice.randrange(len(token) + 1) for _ in range(2))
    return token[:end] + token[start:]


def shuffled(token: str, dice: random.Random) -> str:
    parts = [*token.split("."), *dice.choice(OTHERS).split(".")]
    dice.shuffle(parts)
    return ".".join(parts[:3])


def under_another_header(_: str, dice: random.Random) -> str:
    return f"{b64(json.dumps(dice.choice(HEADERS)).encode())}.{PAYLOAD}.{SIGNATURE}"


def with_other_claims(_: str, dice: random.Random) -> str:
    text = bytearray(json.dumps(claims()).encode())
    for _count in range(dice.randrange(1, 4)):
        text[dice.randrange(len(text))] = dice.randrange(256)
    return f"{HEAD}.{b64(bytes(text))}.{SIGNATURE}"


def noise(_: str, dice: random.Random) -> str:
    return "".join(map(chr, dice.choices(range(0xE000), k=dice.randrange(300))))


MUTATIONS: Final[tuple[Mutation, ...]] = (
    *(replaced, replaced, replaced, inserted, inserted, cut, repeated, shuffled),
    *(under_another_header, with_other_claims, noise),
)


def mutated(dice: random.Random) -> str:
    """Return a token that is not the good one, though it may look like it."""
    token = GOOD
    while token == GOOD:
        token = dice.choice((GOOD, GOOD, GOOD, dice.choice(OTHERS)))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            token = dice.choice(MUTATIONS)(token, dice)[:100_000]
    return token


def mutated_header(dice: random.Random) -> list[str]:
    """Return ``Authorization`` values of which none, or more than one, could be good."""
    value = dice.choice(SCHEMES) + dice.choice((" ", "  ", "", "\t")) + mutated(dice)
    return dice.choice(([value], [value], [value, f"Bearer {GOOD}"], [f"Bearer {GOOD}", value]))


@dataclass
class Report:
    """What a run came to."""

    seed: int
    inputs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


def run(inputs: int, seed: int, *, progress: bool = False) -> Report:
    """Throw that many inputs; stop where there are many failures."""
    dice = random.Random(seed)
    verifier = TokenVerifier(Settings(secret=SECRET), clock=FakeClock())
    verifier.verify(GOOD)
    report = Report(seed)
    # Full collections look through whatever the process holds: more work than any input is.
    gc.collect()
    gc.freeze()
    try:
        while report.inputs < inputs and len(report.failures) < MAX_FAILURES:
            _throw_one(verifier, dice, report)
            if progress and report.inputs % 20_000 == 0:
                print(f"{report.inputs} inputs, slowest {report.slowest * 1e3:.2f} ms", flush=True)
    finally:
        gc.unfreeze()
    verifier.verify(GOOD)
    if verifier.stats().accepted != 1:
        report.failures.append("another token than the good one was accepted")
    return report


def _throw_one(verifier: TokenVerifier, dice: random.Random, report: Report) -> None:
    as_header = dice.random() < 0.2
    thrown: str | list[str] = mutated_header(dice) if as_header else mutated(dice)
    # CPU time of this thread: what else the machine does is not the verifier's doing.
    started = time.thread_time()
    try:
        verdict = _verdict(verifier, thrown)
    except Exception as error:
        verdict = f"raised {type(error).__name__}"
    took = time.thread_time() - started
    report.inputs += 1
    report.slowest = max(report.slowest, took)
    report.reasons[verdict] += 1
    if verdict not in Reason.__members__.values() or verdict == Reason.INTERNAL:
        report.failures.append(f"{verdict}: {thrown!r}")
    elif took > LIMIT_SECONDS:
        report.failures.append(f"took {took * 1e3:.1f} ms ({verdict}): {thrown!r:.300}")


def _verdict(verifier: TokenVerifier, thrown: str | list[str]) -> str:
    if isinstance(thrown, list):
        verdict = verification_of(verifier).check_authorization(thrown)
        return "accepted" if isinstance(verdict, VerifiedToken) else verdict.value
    try:
        verifier.verify(thrown)
    except TokenRejectedError as error:
        return str(error.reason)
    return "accepted"


def main() -> int:
    """Run from the command line; 1 where anything was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"seed {arguments.seed}", flush=True)
    report = run(arguments.inputs, arguments.seed, progress=True)
    for reason, count in report.reasons.most_common():
        print(f"{count:>8}  {reason}")
    print(f"{report.inputs} inputs, slowest {report.slowest * 1e3:.2f} ms")
    for failure in report.failures:
        print(f"FAILED  {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
