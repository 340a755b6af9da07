"""Versions of firmware: their order, and ranges such as `>=2.3, <3` that a profile is written for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile

RANGE_MAX = 120
CLAUSES_MAX = 8
_PART = re.compile(r"\d+|[A-Za-z]+")
_CLAUSE = re.compile(r"(>=|<=|==|!=|=|>|<)?\s*([^\s,<>=!*]*[0-9][^\s,<>=!*]*?)(\.\*)?")
_BEFORE = re.compile(r"alpha|beta|rc|dev|pre|preview|snapshot|test", re.IGNORECASE)

Key = tuple[tuple[int, int, str], ...]
_ENDLESS: Key = ((9, 0, ""),)


def version_key(text: str) -> Key:
    """Order of firmware versions: 2.10 comes after 2.9, 2.0-beta before 2.0, 2.0b after it; 2 equals 2.0.

    Words before the first digit are no part of it (`V2.4`, `FW 2.4`), nor is what follows a blank or a bracket
    behind it (`2.4.1 build 17`).
    """
    first = re.search(r"\d", text)
    text = re.split(r"[\s(,;]", text[first.start() :], maxsplit=1)[0] if first else text
    parts = _PART.findall(text[:RANGE_MAX])
    numbers = [(1, int(p), "") for p in takewhile(str.isdecimal, parts)]
    rest = parts[len(numbers) :]
    while numbers and numbers[-1][1] == 0:
        numbers.pop()
    if not rest:
        return (*numbers, (0, 1, ""))
    return (*numbers, (0, 0 if _BEFORE.fullmatch(rest[0]) else 2, " ".join(p.zfill(9) for p in rest)))


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition of a range: `operator` is `>=`, `>`, `<=`, `<`, `==`, `!=` or `.*` (begins with)."""

    operator: str
    version: str

    def fits(self, version: str) -> bool:
        """Whether a version meets it."""
        key, bound = version_key(version), version_key(self.version)
        if self.operator == ".*":
            return _numbers(version, len(_numbers(self.version))) == _numbers(self.version)
        return {
            ">=": key >= bound,
            ">": key > bound,
            "<=": key <= bound,
            "<": key < bound,
            "==": key == bound,
            "!=": key != bound,
        }[self.operator]


@dataclass(frozen=True, slots=True)
class FirmwareRange:
    """Versions a profile fits; no clause at all fits every version, also one that is not known."""

    text: str
    clauses: tuple[Clause, ...]

    def fits(self, version: str) -> bool:
        """Whether the firmware text of a device lies in the range; text without a digit fits `*` alone."""
        if not self.clauses:
            return True
        return any(c.isdigit() for c in version) and all(clause.fits(version) for clause in self.clauses)

    @property
    def start(self) -> Key:
        """Where it begins; of ranges that fit the same version the one that begins latest is the most specific."""
        return max((version_key(c.version) for c in self.clauses if c.operator in {">=", ">", "==", ".*"}), default=())

    @property
    def end(self) -> Key:
        """Where it ends; where two begin alike, the one that ends sooner is the more specific."""
        ends = (version_key(c.version) for c in self.clauses if c.operator in {"<=", "<", "=="})
        return min(ends, default=_ENDLESS)


def parse_range(text: str) -> FirmwareRange:
    """Reads `*`, `2.4`, `2.4.*`, `>=2.3, <3`, `!=2.5`; all clauses hold together, a bare version means itself.

    Raises:
        ValueError: it is no range, or one no version can lie in.
    """
    if len(text) > RANGE_MAX:
        raise ValueError(f"the firmware range is longer than {RANGE_MAX} characters")
    if text.strip() == "*":
        return FirmwareRange(text, ())
    clauses = []
    for part in text.split(","):
        found = _CLAUSE.fullmatch(part.strip())
        if found is None or (found[3] and found[1] not in {None, "=", "=="}):
            raise ValueError(f"{part.strip()!r} is no firmware version; write *, 2.4, 2.4.* or >=2.3, <3")
        operator = ".*" if found[3] else {None: "==", "=": "=="}.get(found[1], found[1])
        clauses.append(Clause(operator, found[2]))
    if len(clauses) > CLAUSES_MAX:
        raise ValueError(f"the firmware range has more than {CLAUSES_MAX} parts")
    low = max((version_key(c.version) for c in clauses if c.operator in {">=", ">", "=="}), default=None)
    high = min((version_key(c.version) for c in clauses if c.operator in {"<=", "<", "=="}), default=None)
    if low is not None and high is not None and low > high:
        raise ValueError(f"no version lies in {text!r}")
    return FirmwareRange(text, tuple(clauses))


def firmware_fits(text: str, version: str) -> bool:
    """Whether `version`, as a device tells it, lies in the range `text`. Raises ValueError for no range."""
    return parse_range(text).fits(version)


def _numbers(text: str, count: int | None = None) -> list[int]:
    """Leading numbers of a version, at most `count`, filled up with zeros."""
    first = re.search(r"\d", text)
    parts = _PART.findall(text[first.start() :] if first else "")
    numbers = [int(p) for p in takewhile(str.isdecimal, parts)]
    return numbers if count is None else (numbers + [0] * count)[:count]
