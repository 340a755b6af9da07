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

import keyword
import math
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from twinmodel.equations.parse import FUNCTIONS
from twinmodel.equations.regime import Regime
from twinmodel.equations.surrogate import Network, Operators, TableSpec
from twinmodel.equations.terms import (
    INPUTS_MAX,
    OUTPUTS_MAX,
    PARAMS_MAX,
    STATES_MAX,
    VERSION,
    Identifier,
    Matrix,
    Name,
    Number,
    Positive,
    Strict,
)
from twinmodel.profile.schema import Duration

_RESERVED: Final = set(FUNCTIONS)
SUBSTEPS_MAX: Final = 1000
# Families whose outputs are functions of the inputs; their states are one slow offset for each output.
STATIC: Final = frozenset({"lut", "mlp"})

Family = Literal["linear", "ode", "map", "lut", "mlp", "quadratic"]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1, max_length=128)]


class _Bounded(Strict):
    unit: str = ""
    quantity: str = Field("", max_length=64)
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


class _Port(_Bounded):
    """What is bound to a signal.

    Attributes:
        quantity: what is measured, such as `volume flow`.
        tag: how the signal is usually called in a plant, a hint for binding it.
        quality: the worst quality of a sample that still counts.
        nominal: typical value; of an input, what stands in until the first value has come.
    """

    nominal: Number | None = None
    tag: str = Field("", max_length=128)
    quality: Literal["good", "uncertain"] = "uncertain"

    @model_validator(mode="after")
    def _nominal_inside(self) -> _Port:
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.nominal is not None and not low <= self.nominal <= high:
            raise ValueError("nominal must lie within min..max")
        return self


class Input(_Port):
    """One input."""


def _short_param(value: object) -> object:
    return {"value": value} if isinstance(value, (int, float)) else value


class Param(Strict):
    """One constant; bounds and prior are for calibration."""

    value: Number
    unit: str = ""
    bounds: tuple[Number, Number] | None = None
    calibrate: bool = False
    sigma: Positive | None = None

    @model_validator(mode="after")
    def _inside(self) -> Param:
        if self.bounds is not None and self.bounds[0] >= self.bounds[1]:
            raise ValueError("the lower bound must be below the upper one")
        if self.bounds is not None and not self.bounds[0] <= self.value <= self.bounds[1]:
            raise ValueError(f"value {self.value:g} lies outside its bounds {self.bounds[0]:g}..{self.bounds[1]:g}")
        return self


def _short_output(value: object) -> object:
    return {"value": str(value)} if isinstance(value, (str, int, float)) else value


class Output(_Port):
    """One output; a plain text is its expression. The unit may be left out where the value is a plain name."""

    unit: str | None = None  # type: ignore[assignment] # None: taken from the expression
    value: str | None = None
    resolution: Positive | None = None


class Noise(Strict):
    """Standard deviations: process per sqrt(s), measurement per sample, inputs per sample of a measured input."""

    process: dict[Identifier, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field({})
    measurement: dict[Name, Positive] = Field({})
    inputs: dict[Identifier, Positive] = Field({})


class Drift(Strict):
    """Detectors on whitened innovations; the defaults alarm once in twenty years an output, healthy and at 1 Hz.

    `twinmodel.detection_figures` computes what any settings promise.

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
    ewma_limit: Positive = 2.3
    slack: float = Field(0.5, ge=0, le=10)
    limit: Positive = 20.0
    clip: Positive = 4.0
    clear: float = Field(0.5, ge=0, le=1)
    memory: float = Field(0.001, gt=0, le=1)
    change_slack: float = Field(0.25, ge=0, le=10)
    change_limit: Positive = 42.0
    gate: Positive = 6.0
    gate_run: int = Field(5, ge=0, le=1000)
    settle: int = Field(30, ge=0, le=100_000)

    @property
    def settings(self) -> tuple[float, ...]:
        """What the kernels read, in the order of `kernel.drift`: limits as gains, so that kernels divide by none."""
        average = (self.ewma, 1.0 / self.ewma_limit)
        sums = (self.slack / self.limit, 1.0 / self.limit)
        change = (self.memory, self.change_slack / self.change_limit, 1.0 / self.change_limit)
        return (*average, *sums, self.clip, self.clear, *change, self.gate, float(self.gate_run))


class Limits(Strict):
    """`gap`: missed ticks that are predicted through; a longer silence starts the filter afresh."""

    gap: int = Field(600, ge=0, le=100_000)


class Matrices(Strict):
    """State space given as numbers: x' = A x + B u + a (continuous) or x+ = ... (discrete), y = C x + D u + c."""

    kind: Literal["continuous", "discrete"]
    A: Matrix
    B: Matrix
    C: Matrix
    D: Matrix | None = None
    a: Annotated[list[Number], Field(max_length=STATES_MAX)] | None = None
    c: Annotated[list[Number], Field(max_length=OUTPUTS_MAX)] | None = None


class Provenance(Strict):
    """Where the numbers of a model come from.

    Attributes:
        parent: model id of the package this one was made from.
        data_sha256: hash of the data it was fitted to.
        window: first and last time of that data, RFC 3339.
        commit: revision of the sources it was built from.
        author: who answers for it.
        source: document or person the numbers were taken from.
        metrics: figures of merit by name, such as rmse_validation.
        notes: anything else, short.
    """

    parent: Hash | None = None
    data_sha256: Hash | None = None
    window: tuple[Text, Text] | None = None
    commit: Text | None = None
    author: Text | None = None
    source: Annotated[str, Field(max_length=500)] | None = None
    metrics: dict[Name, Number] = Field({}, max_length=64)
    notes: dict[Name, Annotated[str, Field(max_length=500)]] = Field({}, max_length=32)


class Spec(Strict):
    """One model file."""

    model: Name
    version: str = Field(pattern=VERSION)
    description: str = Field("", max_length=1000)
    family: Family
    integrator: Literal["rk4", "ros2"] = "rk4"
    dt: Duration = Field(gt=0, le=3_600_000_000_000)
    substeps: int = Field(1, ge=1, le=SUBSTEPS_MAX)
    states: dict[Identifier, State] = Field({}, max_length=STATES_MAX)
    inputs: dict[Identifier, Input] = Field({}, max_length=INPUTS_MAX)
    params: dict[Identifier, Annotated[Param, BeforeValidator(_short_param)]] = Field({}, max_length=PARAMS_MAX)
    tables: dict[Identifier, TableSpec] = Field({}, max_length=32)
    define: dict[Identifier, str] = Field({}, max_length=PARAMS_MAX)
    equations: dict[str, str] = Field({})
    residual: Network | None = None
    matrices: Matrices | None = None
    network: Network | None = None
    operators: Operators | None = None
    outputs: dict[Name, Annotated[Output, BeforeValidator(_short_output)]] = Field(min_length=1, max_length=OUTPUTS_MAX)
    noise: Noise = Noise()
    regime: Regime = Regime()
    drift: Drift = Drift()
    limits: Limits = Limits()
    provenance: Provenance = Provenance()

    @property
    def discrete(self) -> bool:
        """Whether the right-hand sides give the next state and no derivative."""
        stepwise = self.operators is not None and self.operators.kind == "discrete"
        return stepwise or self.family == "map" or self.family in STATIC

    @model_validator(mode="after")
    def _names(self) -> Spec:
        groups: dict[str, Iterable[str]] = {
            "states": self.states,
            "inputs": self.inputs,
            "params": self.params,
            "tables": self.tables,
            "define": self.define,
        }
        seen: dict[str, str] = {}
        for group, names in groups.items():
            for name in names:
                if name in _RESERVED or name.startswith("__") or keyword.iskeyword(name):
                    raise ValueError(f"{group}.{name}: the name is reserved")
                if name in seen:
                    raise ValueError(f"{group}.{name}: the name is taken by {seen[name]}")
                seen[name] = group
        states = set(self.states)
        if self.family in STATIC:
            states |= {offset_name(name) for name in self.outputs}
        checks: list[tuple[str, Iterable[str], set[str]]] = [
            ("noise.process", self.noise.process, states),
            ("noise.measurement", self.noise.measurement, set(self.outputs)),
            ("noise.inputs", self.noise.inputs, set(self.inputs)),
            *((f"regime.{part}", (name,), set(self.inputs) | states) for name, part in self.regime.names.items()),
        ]
        for place, given, known in checks:
            for name in given:
                if name not in known:
                    raise ValueError(f"{place}.{name}: no such name; known are {', '.join(sorted(known))}")
        return self

    @model_validator(mode="after")
    def _one_form(self) -> Spec:
        """Each family has the parts it is made of, and no other."""
        if self.family == "linear" and (self.matrices is None) == (not self.equations):
            raise ValueError("give either equations or matrices")
        for part, families in _PARTS.items():
            given, wanted = bool(getattr(self, part)), self.family in families
            if given and not wanted:
                raise ValueError(f"{part} need family: {' or '.join(families)}")
            if wanted and not given and families[self.family]:
                raise ValueError(f"family: {self.family} needs {part}")
        if self.family not in STATIC and not self.states:
            raise ValueError(f"family: {self.family} needs states")
        if self.integrator != "rk4" and (self.discrete or self.family == "linear"):
            raise ValueError("integrator: is for differential equations, family: ode or quadratic")
        if self.substeps != 1 and self.discrete:
            raise ValueError("substeps: are for differential equations; this model steps once a tick")
        return self

    @model_validator(mode="after")
    def _outputs_have_values(self) -> Spec:
        given: set[str] = set()
        if self.matrices is not None or (self.operators is not None and self.operators.C is not None):
            given = set(self.outputs)
        if self.network is not None:
            given = set(self.network.outputs or self.outputs)
            unknown = sorted(given - set(self.outputs))
            if unknown:
                raise ValueError(f"network.outputs: {unknown[0]} is no output")
        from_file = self.operators is not None and self.operators.file is not None
        for name, output in self.outputs.items():
            if (output.value is None) != (name in given) and not (from_file and output.value is None):
                raise ValueError(f"outputs.{name}: an expression is needed, and none beside matrices or a network")
        return self


def offset_name(output: str) -> str:
    """Name of the slow offset of an output of a static model."""
    name = f"{output.replace('-', '_')}_offset"
    return f"_{name}" if name[0].isdigit() else name


# Which family has which part, and whether it must.
_PARTS: Final[dict[str, dict[str, bool]]] = {
    "equations": {"linear": False, "ode": True, "map": True},
    "matrices": {"linear": False},
    "residual": {"ode": False, "map": False},
    "network": {"mlp": True},
    "operators": {"quadratic": True},
    "tables": {"lut": True, "ode": False, "map": False, "mlp": False, "quadratic": False},
}
