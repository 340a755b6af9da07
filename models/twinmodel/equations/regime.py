"""Where a model is valid: a box, an ellipsoid about its data, rates of change, and what to do outside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, model_validator

from twinmodel.equations.terms import INPUTS_MAX, Identifier, Matrix, Number, Positive, Strict


class Ellipsoid(Strict):
    """Where data has been: |shape · (x - centre)| <= limit.

    Attributes:
        names: inputs and states that make up x.
        centre: one number for each name, in its unit.
        shape: square whitening matrix; `shape · (x - centre)` has unit variance over the data.
        limit: largest length, in sigma.
    """

    names: list[Identifier] = Field(min_length=1, max_length=INPUTS_MAX)
    centre: list[Number]
    shape: Matrix
    limit: Positive

    @model_validator(mode="after")
    def _square(self) -> Ellipsoid:
        count = len(self.names)
        if len(set(self.names)) != count:
            raise ValueError("a name stands twice")
        if len(self.centre) != count or len(self.shape) != count or {len(row) for row in self.shape} != {count}:
            raise ValueError(f"centre must be {count} numbers and shape {count} rows of {count}")
        return self


class Regime(Strict):
    """Where the model is valid, over inputs and states, and what to do outside.

    Attributes:
        box: lower and upper end by name.
        ellipsoid: where the data of the fit lies, None for no such limit.
        rate: largest change per second by name, in its unit.
        action: mark the estimates, widen their sigma, or give none.
    """

    box: dict[Identifier, tuple[Number, Number]] = Field({})
    ellipsoid: Ellipsoid | None = None
    rate: dict[Identifier, Positive] = Field({})
    action: Literal["flag", "inflate", "stop"] = "flag"

    @model_validator(mode="after")
    def _ordered(self) -> Regime:
        for name, (low, high) in self.box.items():
            if low >= high:
                raise ValueError(f"box.{name}: the lower end must be below the upper end")
        return self

    @property
    def names(self) -> dict[str, str]:
        """Every name the regime speaks of, and in which part."""
        groups: dict[str, Iterable[str]] = {
            "box": self.box,
            "rate": self.rate,
            "ellipsoid": self.ellipsoid.names if self.ellipsoid else (),
        }
        return {name: part for part, names in groups.items() for name in names}
