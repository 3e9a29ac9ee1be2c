"""Whether a call without a valid token is refused: by the variable, or by the flag it names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from manor_mcp_interceptors._flags.evaluation import FlagEvaluator
from manor_mcp_interceptors._flags.gates import FlagAnswer, FlagQuestion
from manor_mcp_interceptors._telemetry.log import LogThrottle, log
from manor_mcp_interceptors._waiting import LOOP_WAIT
from manor_mcp_interceptors.errors import SettingsError
from manor_mcp_interceptors.protocols import Gate
from manor_mcp_interceptors.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class EnforcementRule:
    """What the settings of one recheck say. Each recheck has a new one."""

    is_enforced: bool
    """The variable: it stands until there is an answer for the flag."""
    question: FlagQuestion | None
    """What the gate is asked; None if the settings name no flag."""


def rule_of(settings: Settings) -> EnforcementRule:
    """Return the rule in `settings`."""
    flag = settings.enforcement_flag
    question = flag and FlagQuestion(flag, settings.subject, settings.issuer, settings.audience)
    return EnforcementRule(settings.enforcement == "enforce", question or None)


@dataclass(frozen=True, slots=True)
class Mode:
    """Whether calls are refused."""

    is_enforced: bool
    why: str
    """The variable, or the flag and who answered."""
    problem: str | None = None
    """What is wrong with the flag's value; None if nothing is."""


_BY_DEFAULT: Final = Mode(is_enforced=True, why="the default")


class Enforcement:
    """Answers whether calls are refused. Safe from any thread; raises nothing.

    The flag is asked only for a call that may be refused, and at most once for each rule: a call
    with a valid token never waits for it. An event of the flag's backend makes it be asked again.
    """

    def __init__(self, gate: Gate | None) -> None:
        """Take the gate to ask; None is the default ones.

        Raises:
            SettingsError: The gate is malformed, or answers per call: then a request could decide
                whether it is refused.
        """
        self._flags = FlagEvaluator(gate, self.end, isolated=True)
        if self._flags.per_call:
            raise SettingsError("gate: one with per_call cannot decide whether calls are refused")
        self._known: tuple[EnforcementRule, Mode] | None = None
        self._generation = 0
        self._logged = _BY_DEFAULT
        self._problems = LogThrottle()

    def end(self) -> None:
        """Have the next call that may be refused ask the flag again."""
        self._generation += 1
        self._known = None

    def is_on(self, rule: EnforcementRule, max_wait: float | None = LOOP_WAIT) -> bool:
        """Return whether calls are refused by `rule`; the arguments are those of `mode`."""
        return self.mode(rule, max_wait).is_enforced

    def mode(self, rule: EnforcementRule, max_wait: float | None = LOOP_WAIT) -> Mode:
        """Return whether calls are refused by `rule`, and why.

        Args:
            rule: The one of the latest recheck.
            max_wait: Seconds to wait for the flag; None is the library's limit for a first answer.
        """
        known, generation = self._known, self._generation
        if known is not None and known[0] is rule:
            return known[1]
        answer = None if rule.question is None else self._flags.ask(rule.question, max_wait)
        return self._keep(rule, answer, generation)

    async def is_on_async(self, rule: EnforcementRule) -> bool:
        """As `is_on`; the event loop continues while the flag is asked."""
        known, generation = self._known, self._generation
        if known is not None and known[0] is rule:
            return known[1].is_enforced
        answer = None if rule.question is None else await self._flags.ask_async(rule.question)
        return self._keep(rule, answer, generation).is_enforced

    def _keep(self, rule: EnforcementRule, answer: FlagAnswer | None, generation: int) -> Mode:
        mode = _mode(rule, answer)
        if self._generation == generation:  # no event came while the flag was asked
            self._known = rule, mode
        self._log(mode)
        return mode

    def _log(self, mode: Mode) -> None:
        """Log a change at WARNING: without any handler for INFO, an operator waits for it."""
        for problem in self._problems.new([mode.problem] if mode.problem else []):
            log(logging.WARNING, "MCP auth enforcement: %s; the variable stands", problem)
        if mode.is_enforced == self._logged.is_enforced:
            return
        self._logged = mode
        if mode.is_enforced:
            text = "MCP auth enforces: a call without a valid token is refused (%s)"
        else:
            text = "MCP auth observes: a call without a valid token is let through (%s)"
        log(logging.WARNING, text, mode.why)


def _mode(rule: EnforcementRule, answer: FlagAnswer | None) -> Mode:
    if rule.question is None or answer is None or answer.is_default or answer.invalid:
        variable = f"MCP_AUTH_ENFORCEMENT={'enforce' if rule.is_enforced else 'observe'}"
        problem = answer.problem if answer is not None and answer.invalid else None
        return Mode(rule.is_enforced, variable, problem)
    state = "on" if answer.enabled else "off"
    return Mode(answer.enabled, f"flag {rule.question.key!r} is {state}: {answer.source}")
