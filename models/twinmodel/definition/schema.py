"""Shape of a twin definition; a published version never changes.

    definition: pump
    version: 1.2.0
    extends: machine@1.0.0
    properties:
      flow: {unit: m3/h, min: 0, max: 200}
      speed-limit: {unit: 1/min, min: 0, max: 3000, desired: true, tolerance: 5}
    relationships:
      feeds: {target: tank, max: 1, properties: {length: {unit: m}}}

A name may be given again below `extends` only where it narrows what it inherits; see `resolve`.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from twinmodel import units
from twinmodel.errors import InputError

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
VERSION: Final = r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,39}$"
REFERENCE: Final = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}@[0-9A-Za-z][0-9A-Za-z.+-]{0,39}$"
TARGET: Final = r"^$|^[A-Za-z0-9][A-Za-z0-9_-]{0,62}(@[0-9A-Za-z][0-9A-Za-z.+-]{0,39})?$"
PROPERTY: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
PROPERTIES_MAX: Final = 500
RELATIONSHIPS_MAX: Final = 100
PARENTS_MAX: Final = 8
RELATED_MAX: Final = 10_000

PropertyKind = Literal["float", "int", "bool", "string"]


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _known_unit(text: str) -> str:
    if text:
        try:
            units.parse(text)
        except InputError as unknown:
            raise ValueError(unknown.message) from None
    return text


Reference = Annotated[str, Field(pattern=REFERENCE)]
PropertyName = Annotated[str, Field(pattern=PROPERTY)]
RelationName = Annotated[str, Field(pattern=NAME)]
Limit = Annotated[float | None, AfterValidator(_finite)]
UnitText = Annotated[str, Field(max_length=units.TEXT_MAX), AfterValidator(_known_unit)]
Description = Annotated[str, Field(max_length=1_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class PropertySpec(_Strict):
    """One property.

    Attributes:
        kind: type of its values.
        unit: symbol of docs/models.md, "" for a plain number.
        low, high: `min` and `max`, the limits of what may be desired, in `unit`.
        desired: whether people may say what it should be.
        tolerance: how far what is reported may lie from what is desired and still agree, in `unit`.
    """

    kind: PropertyKind = "float"
    unit: UnitText = ""
    description: Description = ""
    low: Limit = Field(None, alias="min")
    high: Limit = Field(None, alias="max")
    desired: bool = False
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _sound(self) -> PropertySpec:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("min must not be above max")
        numeric = self.kind in ("float", "int")
        if not numeric and (self.unit or self.low is not None or self.high is not None or self.tolerance):
            raise ValueError(f"a {self.kind} has no unit, no limits and no tolerance")
        return self


class RelationshipSpec(_Strict):
    """One type of relationship.

    Attributes:
        target: definition of the twin it leads to, with or without a version, "" for any.
        least, most: `min` and `max`, how many a twin has; `max` None for no bound but RELATED_MAX.
        properties: what is said of each of them.
    """

    target: Annotated[str, Field(pattern=TARGET)] = ""
    description: Description = ""
    least: Annotated[int, Field(alias="min", ge=0, le=RELATED_MAX)] = 0
    most: Annotated[int | None, Field(alias="max", ge=1, le=RELATED_MAX)] = None
    properties: Annotated[dict[PropertyName, PropertySpec], Field(max_length=50)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sound(self) -> RelationshipSpec:
        if self.most is not None and self.least > self.most:
            raise ValueError("min must not be above max")
        return self


class DefinitionSpec(_Strict):
    """One version of a definition as it is written."""

    definition: Annotated[str, Field(pattern=NAME)]
    version: Annotated[str, Field(pattern=VERSION)]
    description: Description = ""
    extends: Reference | Annotated[list[Reference], Field(max_length=PARENTS_MAX)] = Field(default_factory=list)
    properties: Annotated[dict[PropertyName, PropertySpec], Field(max_length=PROPERTIES_MAX)] = Field(
        default_factory=dict
    )
    relationships: Annotated[dict[RelationName, RelationshipSpec], Field(max_length=RELATIONSHIPS_MAX)] = Field(
        default_factory=dict
    )

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.definition}@{self.version}"

    @property
    def parents(self) -> tuple[str, ...]:
        """What it extends, each once, in the order given."""
        named = [self.extends] if isinstance(self.extends, str) else self.extends
        return tuple(dict.fromkeys(named))
