"""How long history is kept: policies by signal, of which the most specific counts; pure arithmetic over the time given.

    | pattern  | raw days | bucket days | archive days |
    |----------|----------|-------------|--------------|
    | plc0.raw |       30 |         365 |            0 |   a name without wildcards is the most specific
    | plc0.*   |       90 |           0 |            0 |   then the one with the most letters
    | *        |        0 |           0 |            0 |   0 keeps for ever, as where no pattern fits

Whole UTC days go. A sample goes after `raw_days`, where old days are archived after `archive_days` instead: there the
archive alone takes samples out of the database, and only once it has them.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError

DAY_NS: Final = 86_400 * SECOND_NS
DAYS_MAX: Final = 36_500
POLICIES_MAX: Final = 200
PATTERN_CHARS_MAX: Final = 256
_WILD: Final = "*?"


@dataclass(frozen=True, slots=True)
class Policy:
    """How long samples of the signals that fit a pattern are kept, in days; 0 for ever.

    Attributes:
        pattern: of signal names: `*` stands for any letters, `?` for one.
        raw_days: samples, where there is no archive.
        buckets_days: minutes made of them.
        archive_days: samples, where there is an archive.
    """

    pattern: str
    raw_days: int = 0
    buckets_days: int = 0
    archive_days: int = 0

    def days(self, *, archived: bool) -> int:
        """Days that samples are kept, 0 for ever."""
        return self.archive_days if archived else self.raw_days


FOR_EVER: Final = Policy("*")


class Table:
    """The policies of a tenant, the most specific first.

    Raises:
        InputError: VALUE_INVALID for a pattern or a number of days, LIMIT_EXCEEDED for too many policies.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        if len(policies) > POLICIES_MAX:
            raise InputError("LIMIT_EXCEEDED", f"{len(policies)} policies, at most {POLICIES_MAX}", field="policies")
        seen: set[str] = set()
        for policy in policies:
            _check(policy, seen)
            seen.add(policy.pattern)
        self.policies = tuple(sorted(policies, key=_specificity))
        self._matchers = [(_matcher(policy.pattern), policy) for policy in self.policies]

    def policy_of(self, signal: str) -> Policy:
        """The one that counts for a signal; `FOR_EVER` when none fits."""
        return next((policy for matcher, policy in self._matchers if matcher.fullmatch(signal)), FOR_EVER)


def kept_from(days: int, now_ns: int) -> int:
    """Event time before which nothing is kept, the beginning of a UTC day; 0 for ever."""
    return max(0, (now_ns - days * DAY_NS) // DAY_NS * DAY_NS) if days else 0


def _check(policy: Policy, seen: set[str]) -> None:
    pattern = policy.pattern
    if not 0 < len(pattern) <= PATTERN_CHARS_MAX or not pattern.isprintable():
        raise InputError(
            "VALUE_INVALID", f"pattern {pattern[:60]!r} is no name", hint=f"use 1 to {PATTERN_CHARS_MAX} letters",
            field="pattern",
        )  # fmt: skip
    if pattern in seen:
        raise InputError("VALUE_INVALID", f"pattern {pattern!r} is given twice", hint="give it once", field="pattern")
    for name in ("raw_days", "buckets_days", "archive_days"):
        days = getattr(policy, name)
        if not 0 <= days <= DAYS_MAX:
            raise InputError(
                "VALUE_INVALID", f"{name} of {pattern!r}: {days}", hint=f"use 0, for ever, to {DAYS_MAX}", field=name
            )


def _specificity(policy: Policy) -> tuple[bool, int, int, str]:
    letters = sum(letter not in _WILD for letter in policy.pattern)
    return letters < len(policy.pattern), -letters, len(policy.pattern), policy.pattern


@functools.lru_cache(maxsize=1_024)
def _matcher(pattern: str) -> re.Pattern[str]:
    # Of the standard library, for its time grows with the length alone, however many wildcards there are.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))
