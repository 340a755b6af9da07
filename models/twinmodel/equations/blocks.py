"""Numbers an op-list reads from its pool: tables to look up in, and dense blocks of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Table:
    """Values at increasing points of one or two coordinates.

    Attributes:
        xs: points of the first coordinate, shape (n,), strictly increasing.
        values: shape (n,), or (n, m) with two coordinates.
        ys: points of the second coordinate, shape (m,), None with one.
    """

    xs: F64
    values: F64
    ys: F64 | None = None

    @property
    def pool(self) -> F64:
        """What lies in the pool: n, xs, values; or n, m, xs, ys, values row by row."""
        if self.ys is None:
            return np.concatenate([[float(len(self.xs))], self.xs, self.values])
        head = [float(len(self.xs)), float(len(self.ys))]
        return np.concatenate([head, self.xs, self.ys, self.values.ravel()])

    @property
    def axes(self) -> tuple[F64, ...]:
        """Points of each coordinate."""
        return (self.xs,) if self.ys is None else (self.xs, self.ys)


@dataclass(frozen=True, slots=True)
class Block:
    """A dense block: y = bias + weights · x.

    Attributes:
        bias: shape (d,).
        weights: shape (d, b).
    """

    bias: F64
    weights: F64

    @property
    def pool(self) -> F64:
        """What lies in the pool: the bias, then the weights row by row."""
        return np.concatenate([self.bias, self.weights.ravel()])


@dataclass(frozen=True, slots=True)
class Blocks:
    """Everything of a model that its op-lists read by offset, by name."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    dense: Mapping[str, Block] = field(default_factory=dict)
