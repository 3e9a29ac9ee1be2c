"""Throw mutated tokens and headers at the verifier: ``python -m tests.fuzz_verifier --inputs N``.

The verifier has a secret and a public key of each kind. Nothing but an unmutated token may be
accepted, nothing but a refusal may come out, and no input may take longer than `LIMIT_SECONDS`.
Then a tenth as many mutated files of public keys: whatever is in them, nothing but a refusal may
come out. The seed is printed, and makes a run repeatable.
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
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from manor_mcp_interceptors import Settings, TokenRejectedError, TokenVerifier
from manor_mcp_interceptors.server.verifier import Reason, VerifiedToken, verification_of
from tests.server.forging import b64, claims, forge, forge_with
from tests.support import OTHER_SECRET, SECRET, FakeClock
from tests.support.key_pairs import ALGORITHMS, key_pair, write_jwks

LIMIT_SECONDS: Final = 0.005
MAX_FAILURES: Final = 10
PAIRS: Final = tuple(key_pair(algorithm) for algorithm in ALGORITHMS)
GOOD: Final = (forge(claims()), *(forge_with(pair) for pair in PAIRS))
OTHERS: Final = (
    *(forge_with(pair, claims(exp=1)) for pair in PAIRS),
    *(
        forge_with(key_pair(name, 2), header={"alg": name, "kid": PAIRS[0].kid})
        for name in ALGORITHMS
    ),
    *(
        forge(claims(), secret=pair.public(encoding), header={"alg": "HS256", "kid": pair.kid})
        for pair in PAIRS
        for encoding in (Encoding.PEM, Encoding.DER)
    ),
    forge(claims(), secret=OTHER_SECRET),
    forge(claims(exp=1)),
    forge(claims(aud="other-mcp")),
    forge(claims(), header={"alg": "none"}),
    forge("[" * 2000),
    forge(claims(padding="x" * 5000), secret=OTHER_SECRET),
)
HEADERS: Final = (
    {"alg": "none"},
    *({"alg": name, "kid": pair.kid} for name in ("HS256", *ALGORITHMS) for pair in PAIRS),
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


def under_another_header(token: str, dice: random.Random) -> str:
    header = b64(json.dumps(dice.choice(HEADERS)).encode())
    return f"{header}.{token.partition('.')[2]}"


def with_other_claims(_: str, dice: random.Random) -> str:
    head, _, signature = dice.choice(GOOD).split(".")
    return f"{head}.{b64(damaged(json.dumps(claims()).encode(), dice))}.{signature}"


def with_another_signature(_: str, dice: random.Random) -> str:
    signed, _, signature = dice.choice(GOOD).rpartition(".")
    data = damaged(urlsafe_b64decode(signature + "=="), dice)
    return f"{signed}.{b64(data[dice.choice((0, 0, 1)) :] + dice.choice((b'', b'', bytes(1))))}"


def damaged(data: bytes, dice: random.Random) -> bytes:
    text = bytearray(data)
    for _ in range(dice.randrange(1, 4)):
        text[dice.randrange(len(text))] ^= dice.randrange(1, 256)
    return bytes(text)


def noise(_: str, dice: random.Random) -> str:
    return "".join(map(chr, dice.choices(range(0xE000), k=dice.randrange(300))))


MUTATIONS: Final[tuple[Mutation, ...]] = (
    *(replaced, replaced, replaced, inserted, inserted, cut, repeated, shuffled),
    *(under_another_header, with_other_claims, with_another_signature, noise),
)


def mutated(dice: random.Random) -> str:
    """Return a token that is no good one, though it may look like it."""
    token = GOOD[0]
    while token in GOOD:
        token = dice.choice((*GOOD, *GOOD, dice.choice(OTHERS)))
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            token = dice.choice(MUTATIONS)(token, dice)[:100_000]
    return token


def mutated_header(dice: random.Random) -> list[str]:
    """Return ``Authorization`` values of which none, or more than one, could be good."""
    value = dice.choice(SCHEMES) + dice.choice((" ", "  ", "", "\t")) + mutated(dice)
    good = f"Bearer {dice.choice(GOOD)}"
    return dice.choice(([value], [value], [value, good], [good, value]))


STRANGE: Final[tuple[Any, ...]] = (
    *(None, True, 0, -1, 1.5, 10**30, "", "A", "=", "\ud800", "\u00e9", "A" * 43, "_" * 43, "AQ"),
    *("AQAB", "A" * 5000, [], {}, ["P-256"], "P-384", "Ed448", "EC", "RSA", "OKP", "oct"),
    *("sig", "enc", ["verify"], ["sign"], "RS256", "HS256", "none", [[]], {"kty": "RSA"}),
)
MEMBERS: Final = (
    *("kty", "crv", "x", "y", "n", "e", "kid", "use", "alg", "key_ops", "sub", "x5c", "d", "k"),
)


def mutated_file(dice: random.Random) -> bytes:
    """Return a file of public keys with strange members, or broken anywhere."""
    keys: list[Any] = [pair.jwk(use="sig", sub="service-a") for pair in PAIRS]
    for _ in range(dice.choice((0, 1, 1, 2, 5))):
        at, other = dice.randrange(len(keys)), dice.choice(PAIRS).jwk()
        if isinstance(keys[at], dict):
            changed = {dice.choice(MEMBERS): dice.choice((*STRANGE, *other.values()))}
            keys[at] = {**keys[at], **changed}
            keys[at].pop(dice.choice((*MEMBERS, *[""] * 20)), None)
        if dice.random() < 0.1:
            keys[at] = dice.choice((*STRANGE, other))
    data = json.dumps({"keys": keys}).encode()
    if dice.random() < 0.2:
        data = data[: dice.randrange(len(data))] if dice.random() < 0.5 else damaged(data, dice)
    return data


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
    with TemporaryDirectory() as folder:
        jwks = write_jwks(Path(folder, "jwks"), *PAIRS)
        verifier = TokenVerifier(Settings(secret=SECRET, jwks_file=jwks), clock=FakeClock())
        report = _run(verifier, Report(seed), inputs, progress=progress)
    for token in GOOD:
        verifier.verify(token)
    if verifier.stats().accepted != len(GOOD):
        report.failures.append("another token than the good ones was accepted")
    return report


def run_files(inputs: int, seed: int) -> Report:
    """Give the verifier that many files of public keys; good tokens are accepted or refused."""
    dice, report = random.Random(seed), Report(seed)
    with TemporaryDirectory() as folder:
        file = write_jwks(Path(folder, "jwks"), *PAIRS)
        settings = Settings(secret=SECRET, jwks_file=file, recheck_seconds=0)
        verifier = TokenVerifier(settings, clock=FakeClock())
        while report.inputs < inputs and len(report.failures) < MAX_FAILURES:
            data = mutated_file(dice)
            file.write_bytes(data)
            started = time.thread_time()
            verdicts = [_verdict(verifier, token) for token in GOOD]
            report.slowest = max(report.slowest, time.thread_time() - started)
            report.inputs += 1
            report.reasons.update(verdicts)
            if Reason.INTERNAL in verdicts or verdicts[0] != "accepted":
                report.failures.append(f"{verdicts}: {data!r}")
    return report


def _run(verifier: TokenVerifier, report: Report, inputs: int, *, progress: bool) -> Report:
    dice = random.Random(report.seed)
    for token in GOOD:
        verifier.verify(token)
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
    tokens = run(arguments.inputs, arguments.seed, progress=True)
    files = run_files(arguments.inputs // 10, arguments.seed)
    for what, report in (("tokens", tokens), ("files", files)):
        for reason, count in report.reasons.most_common():
            print(f"{count:>8}  {reason}")
        print(f"{report.inputs} {what}, slowest {report.slowest * 1e3:.2f} ms of CPU")
        for failure in report.failures:
            print(f"FAILED  {failure}")
    return 1 if tokens.failures or files.failures else 0


if __name__ == "__main__":
    sys.exit(main())
