"""``python -m tests.edge.fuzz NAME``: strange tokens with a good signature, through one proxy.

Each is also given to the library's verifier. What a proxy lets through although the verifier
refuses it is counted by the verifier's reason.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from manor_mcp_interceptors import Settings, TokenVerifier
from manor_mcp_interceptors.errors import TokenRejectedError
from tests.server.forging import forge
from tests.support import AUDIENCE, SECRET

from .cases import CALLER, Case, bearer
from .harness import proxy_and_verifier
from .proxies import KINDS, Proxy
from .table import http_outcome
from .upstreams import Upstreams, upstreams

NUMBERS: Final = (
    *('"{}"', "[{}]", "{}.5", "{}.0", "{}e0", " {} ", "-{}", "0.{}e10", "{}{}", "null", "true"),
    *("[]", "-1", "0", "-0", "1e300", "1E400", "9007199254740993", "99999999999999999999", '""'),
)
"""Other ways to write a number, some of them the same number."""
TEXTS: Final = (
    *('"{} "', '" {}"', '"{}\\u0000"', '"{}\\n"', '"{}\\u00e9"', '"{}\\ud800"', '"x{}"', '["{}"]'),
    *(
        '["{}", 1]',
        '["x\\"", "{}"]',
        '["x]", "{}"]',
        '[["{}"]]',
        '{{"x": "{}"}}',
        "null",
        "7",
        '""',
    ),
)
KEYS: Final = ("{} ", "{}\\u0000", "x{}")
HEADERS: Final = (
    '{"alg":"HS256","alg":"none"}',
    '{"alg":"none","alg":"HS256"}',
    '{"alg":"HS256","crit":[]}',
    '{"alg":"HS256","\\u0063rit":["x"]}',
    '{"alg":"HS256","crit":null}',
    '{"alg":["HS256"]}',
    '{"alg":"HS256\\u0000"}',
    '{"alg":"HS256","kid":7}',
)
WHOLE: Final = ("{} ", "\ufeff{}", "{}{}", "[{}]", "{}x")
RARELY: Final = 0.1


@dataclass
class Strange:
    """Strange tokens, the same ones for the same seed and second."""

    seed: int
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def token(self) -> str:
        """Return a token, signed with the current secret, of which one part or two are strange."""
        now = int(time.time())
        numbers = {"iat": now - 5, "exp": now + 60, "nbf": now - 5}
        texts = {"iss": "manor-internal", "aud": AUDIENCE, "sub": CALLER, "scope": "a b"}
        members = [self._member(name, str(value), NUMBERS) for name, value in numbers.items()]
        members += [self._member(name, value, TEXTS, '"{}"') for name, value in texts.items()]
        if self._random.random() < RARELY:
            members.append(self._random.choice(members))  # a claim that occurs twice
        self._random.shuffle(members)
        payload = self._perhaps("{" + ",".join(members) + "}", WHOLE)
        header = '{"alg":"HS256"}'
        if self._random.random() < RARELY:
            header = self._random.choice(HEADERS)
        return forge(payload, header=header)

    def _member(self, name: str, value: str, ways: tuple[str, ...], usual: str = "{}") -> str:
        written = usual.format(value)
        if self._random.random() < RARELY:
            written = self._random.choice(ways).format(value, value)
        return f'"{self._perhaps(name, KEYS, RARELY / 5)}": {written}'

    def _perhaps(self, text: str, ways: tuple[str, ...], share: float = RARELY) -> str:
        if self._random.random() >= share:
            return text
        way = self._random.choice(ways)
        return way.replace("{}", text)


def compare(proxy: Proxy, services: Upstreams, *, calls: int, seed: int) -> Counter[str]:
    """Return how often each reason of the verifier did not keep a token from the service."""
    verifier, strange = TokenVerifier(Settings(secret=SECRET)), Strange(seed)
    found: Counter[str] = Counter()
    for _ in range(calls):
        token = strange.token()
        outcome = http_outcome(proxy, services, Case("", bearer(partial(str, token)), ""))
        passed = not outcome.isdigit() or int(outcome) < 400
        try:
            caller = verifier.verify(token).subject
        except TokenRejectedError as refused:
            found[str(refused.reason)] += passed
        else:
            found["another caller"] += passed and outcome.partition(" (")[0] != caller
            found["passed"] += passed
    return +found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.edge.fuzz", description=__doc__)
    parser.add_argument("name", metavar="NAME", choices=list(KINDS))
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    environ = {"MCP_AUTH_SECRET": SECRET}
    with (
        tempfile.TemporaryDirectory() as folder,
        upstreams() as services,
        proxy_and_verifier(options.name, services, Path(folder), environ) as proxy,
    ):
        found = compare(proxy, services, calls=options.calls, seed=options.seed)
    sys.stdout.write(json.dumps(dict(found), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
