"""Shape of a model file.

    model: two-tanks
    version: 1.0.0
    family: ode
    dt: 1s
    states:  {h1: {unit: m, start: 0.2, sigma: 0.1}}
    inputs:  {pump: {unit: V, min: 0, max: 10, nominal: 5}}
    params:  {k1: {value: 0.02, unit: m^0.5/s}}
    equations: {"h1'": k4*pump - k1*sqrt(max(h1, 0))}
    outputs: {level1: h1}
    noise: {process: {h1: 0.0005}, measurement: {level1: 0.002}}

Process noise is a standard deviation per square root of a second, in the unit of the state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from twinmodel.profile.schema import Duration

STATES_MAX: Final = 16
INPUTS_MAX: Final = 32
OUTPUTS_MAX: Final = 32
PARAMS_MAX: Final = 128
VERSION: Final = r"^\d{1,6}\.\d{1,6}\.\d{1,6}$"
_RESERVED: Final = {"sqrt", "abs", "min", "max"}

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Strict(BaseModel):
    """Unknown keys are errors: a typing mistake must never be ignored silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Bounded(Strict):
    unit: str = ""
    low: Number | None = Field(None, alias="min")
    high: Number | None = Field(None, alias="max")

    @model_validator(mode="after")
    def _ordered(self) -> _Bounded:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("min must be below max")
        return self

    @property
    def span(self) -> float | None:
        """Width max - min, None when one of them is not given."""
        return None if self.low is None or self.high is None else self.high - self.low


class State(_Bounded):
    """One state; `sigma` is the standard deviation of `start`, min and max are hard bounds of the estimate."""

    start: Number = 0.0
    sigma: Positive | None = None


class Input(_Bounded):
    """One input; `nominal` stands in until the first value has come."""

    nominal: Number | None = None


def _short_param(value: object) -> object:
    return {"value": value} if isinstance(value, (int, float)) else value


class Param(Strict):
    """One constant; bounds and prior are for calibration."""

    value: Number
    unit: str = ""
    bounds: tuple[Number, Number] | None = None
    calibrate: bool = False
    sigma: Positive | None = None


def _short_output(value: object) -> object:
    return {"value": str(value)} if isinstance(value, (str, int, float)) else value


class Output(_Bounded):
    """One output; a plain text is its expression. The unit may be left out where the value is a plain name."""

    unit: str | None = None  # type: ignore[assignment] # None: taken from the expression
    value: str | None = None
    nominal: Number | None = None
    resolution: Positive | None = None


class Noise(Strict):
    """Standard deviations: process per sqrt(s), measurement per sample, inputs per sample of a measured input."""

    process: dict[Identifier, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    measurement: dict[Name, Positive] = {}
    inputs: dict[Identifier, Positive] = {}


class Regime(Strict):
    """Where the model is valid: a box over inputs and states, and what to do outside."""

    box: dict[Identifier, tuple[Number, Number]] = {}
    action: Literal["flag", "inflate", "stop"] = "flag"


class Drift(Strict):
    """Detectors on whitened innovations; the defaults alarm less than once in ten years of healthy data at 1 Hz.

    Attributes:
        ewma: weight of the newest squared innovation.
        ewma_limit: excess over 1 of the averaged square that scores 1.
        slack: CUSUM allowance, in sigma.
        limit: CUSUM sum that scores 1.
        clip: innovations count up to this many sigma, so that one spike raises nothing.
        clear: score below which the flag falls again.
        memory: weight of the newest innovation in the mean that changes are held against (Page-Hinkley).
        change_slack: allowance of a change, in sigma.
        change_limit: sum of changes that scores 1.
        gate: innovations beyond this many sigma are counted, but kept out of the state.
        gate_run: as many in a row are kept out; what comes after is a step of the machine, and believed.
        settle: ticks without detection after a start, a swap or a gap.
    """

    ewma: float = Field(0.05, gt=0, le=1)
    ewma_limit: Positive = 2.0
    slack: float = Field(0.5, ge=0, le=10)
    limit: Positive = 16.0
    clip: Positive = 4.0
    clear: float = Field(0.5, ge=0, le=1)
    memory: float = Field(0.002, gt=0, le=1)
    change_slack: float = Field(0.5, ge=0, le=10)
    change_limit: Positive = 20.0
    gate: Positive = 6.0
    gate_run: int = Field(5, ge=0, le=1000)
    settle: int = Field(30, ge=0, le=100_000)

    @property
    def settings(self) -> tuple[float, ...]:
        """What the kernels read, in the order of `kernel.drift`: slacks and limits as gains, the kernels divide by none."""
        average = (self.ewma, 1.0 / self.ewma_limit)
        sums = (self.slack / self.limit, 1.0 / self.limit)
        change = (self.memory, self.change_slack / self.change_limit, 1.0 / self.change_limit)
        return (*average, *sums, self.clip, self.clear, *change, self.gate, float(self.gate_run))


class Limits(Strict):
    """`gap`: missed ticks that are predicted through; a longer silence starts the filter afresh."""

    gap: int = Field(600, ge=0, le=100_000)


Matrix = Annotated[list[list[Number]], Field(max_length=64)]


class Matrices(Strict):
    """State space given as numbers: x' = A x + B u (continuous) or x+ = A x + B u (discrete), y = C x + D u."""

    kind: Literal["continuous", "discrete"]
    A: Matrix
    B: Matrix
    C: Matrix
    D: Matrix | None = None


class Spec(Strict):
    """One model file."""

    model: Name
    version: str = Field(pattern=VERSION)
    description: str = Field("", max_length=1000)
    family: Literal["linear", "ode"]
    dt: Duration = Field(gt=0, le=3_600_000_000_000)
    substeps: int = Field(1, ge=1, le=1000)
    states: dict[Identifier, State] = Field(min_length=1, max_length=STATES_MAX)
    inputs: dict[Identifier, Input] = Field({}, max_length=INPUTS_MAX)
    params: dict[Identifier, Annotated[Param, BeforeValidator(_short_param)]] = Field({}, max_length=PARAMS_MAX)
    define: dict[Identifier, str] = Field({}, max_length=PARAMS_MAX)
    equations: dict[str, str] = {}
    matrices: Matrices | None = None
    outputs: dict[Name, Annotated[Output, BeforeValidator(_short_output)]] = Field(min_length=1, max_length=OUTPUTS_MAX)
    noise: Noise = Noise()
    regime: Regime = Regime()
    drift: Drift = Drift()
    limits: Limits = Limits()
    provenance: dict[Name, Annotated[str, Field(max_length=500)]] = Field({}, max_length=32)

    @model_validator(mode="after")
    def _names(self) -> Spec:
        groups: dict[str, Iterable[str]] = {
            "states": self.states,
            "inputs": self.inputs,
            "params": self.params,
            "define": self.define,
        }
        seen: dict[str, str] = {}
        for group, names in groups.items():
            for name in names:
                if name in _RESERVED or re.fullmatch(r"__.*", name):
                    raise ValueError(f"{group}.{name}: the name is reserved")
                if name in seen:
                    raise ValueError(f"{group}.{name}: the name is taken by {seen[name]}")
                seen[name] = group
        checks = (
            ("noise.process", self.noise.process, set(self.states)),
            ("noise.measurement", self.noise.measurement, set(self.outputs)),
            ("noise.inputs", self.noise.inputs, set(self.inputs)),
            ("regime.box", self.regime.box, set(self.inputs) | set(self.states)),
        )
        for place, given, known in checks:
            for name in given:
                if name not in known:
                    raise ValueError(f"{place}.{name}: no such name; known are {', '.join(sorted(known))}")
        for name, (low, high) in self.regime.box.items():
            if low >= high:
                raise ValueError(f"regime.box.{name}: the lower end must be below the upper end")
        return self

    @model_validator(mode="after")
    def _one_form(self) -> Spec:
        if (self.matrices is None) == (not self.equations):
            raise ValueError("give either equations or matrices")
        if self.matrices is not None and self.family != "linear":
            raise ValueError("matrices need family: linear")
        for name, output in self.outputs.items():
            if (output.value is None) != (self.matrices is not None):
                raise ValueError(f"outputs.{name}: an expression is needed, and none beside matrices")
        return self
