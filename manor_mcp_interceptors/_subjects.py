"""Which subjects may call, and which subject a key speaks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_PATTERN_ENDS = (":*", "/*")


@dataclass(frozen=True, slots=True)
class Subjects:
    """Subjects, exact or below a prefix."""

    exact: frozenset[str]
    prefixes: tuple[str, ...] = ()

    @classmethod
    def of(cls, subjects: Iterable[str]) -> Subjects:
        """Return the rule that `subjects` state.

        A text that ends in ``:*`` or ``/*`` allows all subjects that begin with what stands before
        the ``*`` and continue after it: ``system:serviceaccount:shop:*``,
        ``spiffe://example.org/shop/*``. Any other text allows the subject that is equal to it.

        Raises:
            ValueError: There is a ``*`` elsewhere, or nothing before the pattern's end.
        """
        names = [subject.strip() for subject in subjects]
        for name in names:
            rest = name[:-2] if name.endswith(_PATTERN_ENDS) else name
            if "*" in rest or (not rest and name):
                raise ValueError(
                    f"{name[:200]!a} is no pattern: * stands at the end only, after : or / as in"
                    " system:serviceaccount:shop:*"
                )
        return cls(
            frozenset(name for name in names if not name.endswith(_PATTERN_ENDS)),
            tuple(sorted(name[:-1] for name in names if name.endswith(_PATTERN_ENDS))),
        )

    def allow(self, subject: str) -> bool:
        """Return whether `subject` is one of them."""
        return subject in self.exact or any(
            subject.startswith(prefix) and subject != prefix for prefix in self.prefixes
        )

    def names(self) -> list[str]:
        """Return what `of` was given, in the order of the alphabet."""
        return sorted([*self.exact, *(f"{prefix}*" for prefix in self.prefixes)])
