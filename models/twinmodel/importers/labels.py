"""Names, units and ranges that a foreign model lacks, as a person gives them: `level1 [m] 0..1`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twinmodel.errors import InputError

_NUMBER: Final = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LABEL: Final = re.compile(
    rf"\s*(?P<name>[A-Za-z_][A-Za-z0-9_]{{0,62}})\s*(?:\[(?P<unit>[^\]]{{0,64}})\])?"
    rf"\s*(?:(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER}))?\s*"
)
_NOISE: Final = re.compile(rf"\s*(?P<name>[A-Za-z_][A-Za-z0-9_]{{0,62}})\s*=\s*(?P<sigma>{_NUMBER})\s*")


@dataclass(frozen=True, slots=True)
class Label:
    """One state, input or output.

    Attributes:
        name: an identifier.
        unit: empty for a plain number.
        low, high: range, None where none was given.
    """

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None

    def fields(self) -> dict[str, str | float]:
        """What a model file says of it."""
        found: dict[str, str | float] = {"unit": self.unit}
        if self.low is not None and self.high is not None:
            found |= {"min": self.low, "max": self.high}
        return found


def read_labels(texts: Sequence[str], count: int, letter: str, what: str) -> tuple[Label, ...]:
    """Labels of `count` ports; without any they are called `x1`, `x2`, ... by `letter`.

    Raises:
        InputError: REQUEST_INVALID when one cannot be read, or there are too many or too few.
    """
    if not texts:
        return tuple(Label(f"{letter}{k + 1}") for k in range(count))
    labels = []
    for text in texts:
        found = _LABEL.fullmatch(text)
        if found is None:
            raise InputError("REQUEST_INVALID", f"{what} {text!r} cannot be read", hint="write 'NAME [UNIT] MIN..MAX'")
        low, high = (None if found[end] is None else float(found[end]) for end in ("low", "high"))
        labels.append(Label(found["name"], (found["unit"] or "").strip(), low, high))
    if len(labels) != count:
        hint = f"give {what} {count} times, in the order of the file"
        raise InputError("REQUEST_INVALID", f"{what} stands {len(labels)} times, the model has {count}", hint=hint)
    return tuple(labels)


def read_sigmas(texts: Sequence[str], what: str) -> dict[str, float]:
    """Standard deviations by name, of `NAME=SIGMA`."""
    sigmas: dict[str, float] = {}
    for text in texts:
        found = _NOISE.fullmatch(text)
        if found is None or found["name"] in sigmas:
            raise InputError("REQUEST_INVALID", f"{what} {text!r}: write NAME=SIGMA, once for each name")
        sigmas[found["name"]] = float(found["sigma"])
    return sigmas
