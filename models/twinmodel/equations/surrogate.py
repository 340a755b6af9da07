"""Shape of what data taught a model: tables, networks and quadratic operators, inline or in a file beside it.

tables:   {curve: {x: {at: [0, 20, 40], unit: m3/h}, values: [32, 29, 20], unit: m}}
network:  {inputs: [speed], file: weights.safetensors, normalise: {inputs: {speed: [1450, 300]}}}
operators: {A: [[-0.1]], H: [[0.01]], B: [[1]], c: [0]}
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from twinmodel.equations.terms import INPUTS_MAX, Identifier, Matrix, Name, Number, Positive, Row, Strict

Activation = Literal["tanh", "relu", "identity"]
ArrayFile = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.(npz|safetensors)$")]


class Axis(Strict):
    """Points of one coordinate of a table."""

    at: Row
    unit: str = ""

    @field_validator("at")
    @classmethod
    def _increasing(cls, at: list[float]) -> list[float]:
        if len(at) < 2 or any(a >= b for a, b in pairwise(at)):
            raise ValueError("a coordinate needs two or more points that increase")
        return at


class TableSpec(Strict):
    """Values at the points of one coordinate, or row by row (a row for each point of x) of two."""

    x: Axis
    y: Axis | None = None
    values: Row | Matrix
    unit: str = ""

    @model_validator(mode="after")
    def _fits(self) -> TableSpec:
        flat = [v for v in self.values if not isinstance(v, list)]
        rows = [v for v in self.values if isinstance(v, list)]
        if self.y is None and (rows or len(flat) != len(self.x.at)):
            raise ValueError(f"values must be {len(self.x.at)} numbers, one for each point of x")
        if self.y is not None and (flat or len(rows) != len(self.x.at) or {len(r) for r in rows} != {len(self.y.at)}):
            raise ValueError(f"values must be {len(self.x.at)} rows (x) of {len(self.y.at)} numbers (y)")
        return self


class Layer(Strict):
    """One layer: activation(bias + weights · x), a row of weights for each of its outputs."""

    weights: Matrix
    bias: Row
    activation: Activation | None = None

    @model_validator(mode="after")
    def _fits(self) -> Layer:
        if len({len(row) for row in self.weights}) != 1 or len(self.weights) != len(self.bias):
            raise ValueError("weights need rows of one length, as many as the bias has numbers")
        return self


class Normalise(Strict):
    """Centre and scale by name: a network sees (value - centre)/scale, and its results are turned back likewise."""

    inputs: dict[Identifier, tuple[Number, Positive]] = Field({})
    outputs: dict[Name, tuple[Number, Positive]] = Field({})


class Network(Strict):
    """A multi-layer perceptron over states and inputs, each in its declared unit.

    Attributes:
        inputs: names it reads, in the order of its first layer.
        outputs: what it gives: outputs of the model, or states whose rates it corrects.
        layers: weights inline; or
        file: arrays w0, b0, w1, b1, ... in a .npz or .safetensors file beside the model file.
        activation: of every layer but the last, which is linear, unless a layer says otherwise.
        bounds: lower and upper limit of results; a correction of rates must have them.
    """

    inputs: list[Identifier] = Field(min_length=1, max_length=INPUTS_MAX)
    outputs: list[Name] = Field([], max_length=INPUTS_MAX)
    layers: list[Layer] = Field([], max_length=8)
    file: ArrayFile | None = None
    activation: Activation = "tanh"
    normalise: Normalise = Normalise()
    bounds: dict[Name, tuple[Number, Number]] = Field({})

    @model_validator(mode="after")
    def _whole(self) -> Network:
        if bool(self.layers) == (self.file is not None):
            raise ValueError("give either layers or file")
        if len(set(self.inputs)) != len(self.inputs) or len(set(self.outputs)) != len(self.outputs):
            raise ValueError("a name stands twice")
        for name, (low, high) in self.bounds.items():
            if low >= high:
                raise ValueError(f"bounds.{name}: the lower end must be below the upper end")
        unknown = set(self.normalise.inputs) - set(self.inputs)
        if unknown:
            raise ValueError(f"normalise.inputs: {', '.join(sorted(unknown))} is no input of the network")
        return self


class Operators(Strict):
    """A quadratic model x' = A x + H (x ⊗ x) + B u + c (or x+ = ..., discrete), y = C x + D u where these are given.

    H has n(n+1)/2 columns, x_i x_j for j >= i row by row, or all n² of them.
    """

    kind: Literal["continuous", "discrete"] = "continuous"
    A: Matrix | None = None
    H: Matrix | None = None
    B: Matrix | None = None
    c: Row | None = None
    C: Matrix | None = None
    D: Matrix | None = None
    file: ArrayFile | None = None

    @model_validator(mode="after")
    def _given(self) -> Operators:
        inline = [self.A, self.H, self.B, self.c, self.C, self.D]
        if (self.file is None) == all(v is None for v in inline):
            raise ValueError("give either A, H, B, c (C, D) or file")
        return self
