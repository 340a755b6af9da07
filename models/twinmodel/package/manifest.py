"""What a model package says about itself: canonical JSON that carries every fact but the arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, model_validator

from twinmodel.equations.regime import Regime
from twinmodel.equations.schema import SUBSTEPS_MAX, Drift, Family, Limits, Provenance
from twinmodel.equations.terms import (
    INPUTS_MAX,
    OUTPUTS_MAX,
    PARAMS_MAX,
    STATES_MAX,
    VERSION,
    Identifier,
    Name,
    Number,
    Positive,
    Strict,
)
from twinmodel.errors import InputError, PackageError
from twinmodel.kernel.ops import POOL_MAX, REGISTERS_MAX
from twinmodel.kernel.parity import TICKS_MAX
from twinmodel.units import parse

SCHEMA: Final = "twin/2"
KERNEL_VERSION: Final = 2
MANIFEST_MAX: Final = 256 * 1024
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
UnitText = Annotated[str, Field(max_length=64)]


class _Named(Strict):
    name: Name | Identifier
    unit: UnitText
    quantity: Annotated[str, Field(max_length=64)]


class StateEntry(_Named):
    """One state: `low` and `high` are hard bounds, `start` with `sigma` is the belief before the first tick."""

    low: Number | None
    high: Number | None
    start: Number
    sigma: Positive


class PortEntry(_Named):
    """One input or output; values are stored in steps of `resolution`.

    `tag` hints at the signal to bind; `quality` is the worst quality of a sample that still counts.
    """

    low: Number | None
    high: Number | None
    nominal: Number
    resolution: Positive
    tag: Annotated[str, Field(max_length=128)]
    quality: Literal["good", "uncertain"]


class ParamEntry(Strict):
    """One constant of the equations; `sigma` is its prior, or what a fit left of it."""

    name: Name | Identifier
    unit: UnitText

    value: Number
    bounds: tuple[Number, Number] | None
    calibrate: bool
    sigma: Positive | None


class NoiseEntry(Strict):
    """Standard deviations as declared; the covariances made of them are tensors."""

    process: dict[str, Number]
    measurement: dict[str, Number]
    inputs: dict[str, Number]


class TensorEntry(Strict):
    """One array: little-endian, at `offset` (a multiple of 64) of the tensor part."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,31}$")
    dtype: Literal["f8", "i4"]
    shape: Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 16)], ...], Field(min_length=1, max_length=2)]
    offset: int = Field(ge=0, multiple_of=64)


class ParityEntry(Strict):
    """Ticks of the parity run and the hash of all its bits."""

    ticks: int = Field(ge=1, le=TICKS_MAX)
    sha256: Hex


class Manifest(Strict):
    """Every fact of a model package but its arrays."""

    schema_: Literal["twin/2"] = Field(SCHEMA, alias="schema")
    name: Name
    version: str = Field(pattern=VERSION)
    description: str = Field(max_length=1000)
    family: Family
    kernel: Literal["linear", "ode"]
    kernel_version: Literal[2] = KERNEL_VERSION
    integrator: Literal["rk4", "ros2", "map"]
    dt_ns: int = Field(gt=0, le=3_600_000_000_000)
    substeps: int = Field(ge=1, le=SUBSTEPS_MAX)
    registers: int = Field(ge=0, le=REGISTERS_MAX)
    pool: int = Field(ge=0, le=POOL_MAX)
    states: list[StateEntry] = Field(min_length=1, max_length=STATES_MAX)
    inputs: list[PortEntry] = Field(max_length=INPUTS_MAX)
    outputs: list[PortEntry] = Field(min_length=1, max_length=OUTPUTS_MAX)
    params: list[ParamEntry] = Field(max_length=PARAMS_MAX)
    noise: NoiseEntry
    regime: Regime
    drift: Drift
    limits: Limits
    provenance: Provenance
    parity: ParityEntry
    tensors: list[TensorEntry] = Field(max_length=64)

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        groups: tuple[Sequence[_Named | ParamEntry], ...] = (self.states, self.inputs, self.outputs, self.params)
        for names in ([t.name for t in self.tensors], *([e.name for e in group] for group in groups)):
            if len(set(names)) != len(names):
                raise ValueError("a name stands twice")
        known = {entry.name for entry in (*self.states, *self.inputs)}
        if not set(self.regime.names) <= known:
            raise ValueError("the regime names what is neither state nor input")
        for entry in (entry for group in groups for entry in group):
            try:
                parse(entry.unit)
            except InputError as error:
                raise ValueError(f"{entry.name}: {error.message}") from error
        if (self.kernel == "linear") != (self.family == "linear"):
            raise ValueError(f"family {self.family} is not run by kernel {self.kernel}")
        if self.kernel == "linear" and (self.pool or self.registers):
            raise ValueError("the linear kernel has neither registers nor a pool")
        for param in self.params:
            if param.bounds is not None and not param.bounds[0] <= param.value <= param.bounds[1]:
                raise ValueError(f"parameter {param.name} lies outside its bounds")
        return self

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


def dump(manifest: Manifest) -> bytes:
    """The one byte string of a manifest: sorted keys, no whitespace, UTF-8, no NaN."""
    return _CANONICAL.encode(manifest.model_dump(mode="json", by_alias=True)).encode()


def read(raw: bytes) -> Manifest:
    """Reads canonical bytes.

    Raises:
        PackageError: PACKAGE_INVALID for anything `dump` would not have written.
    """
    try:
        manifest = Manifest.model_validate_json(raw)
        # What was not written by `dump` - blanks, another order, a key that stands twice - differs from it.
        canonical = dump(manifest)
    except ValidationError as error:
        faults = {f["loc"]: f for f in reversed(error.errors(include_url=False, include_input=False))}
        old = [place for place in (("schema",), ("kernel_version",)) if place in faults]
        if old:
            message = f"the manifest is of another version ({old[0][0]} is not {SCHEMA}, kernel {KERNEL_VERSION})"
            raise PackageError("PACKAGE_INVALID", message) from error
        fault = faults[next(reversed(faults))]
        where = ".".join(map(str, fault["loc"])) or "its text"
        raise PackageError("PACKAGE_INVALID", f"manifest: {where}: {fault['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise PackageError("PACKAGE_INVALID", f"the manifest is no JSON: {error}") from error
    if canonical != raw:
        raise PackageError("PACKAGE_INVALID", "the manifest is not in canonical form")
    return manifest
