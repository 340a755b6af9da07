"""The smallest shapes a model file and a manifest are made of: names, finite numbers, no unknown keys."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

STATES_MAX: Final = 16
INPUTS_MAX: Final = 32
OUTPUTS_MAX: Final = 32
PARAMS_MAX: Final = 128
POINTS_MAX: Final = 1024
WIDTH_MAX: Final = 256
VERSION: Final = r"^\d{1,6}\.\d{1,6}\.\d{1,6}$"

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Row = Annotated[list[Number], Field(min_length=1, max_length=POINTS_MAX)]
Matrix = Annotated[list[Row], Field(min_length=1, max_length=POINTS_MAX)]


class Strict(BaseModel):
    """Unknown keys are errors: a typing mistake must never be ignored silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
