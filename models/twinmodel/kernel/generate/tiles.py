"""The rows of one tile while code is written: what the reference kernels read and change, as `Row`s and `Value`s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from twinmodel.kernel.arena import DRIFT, WATCH
from twinmodel.kernel.generate.form import Form, Row, Value
from twinmodel.kernel.reference import Tiles


class Rows:
    """Consecutive rows: `rows[i]` is one, `rows[i] = value` changes it."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __getitem__(self, at: Any) -> Any:
        return self._rows[at]

    def __setitem__(self, at: Any, value: Any) -> None:
        self._rows[at][:] = value

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class TracedTiles:
    """One lane of one tile, with the attributes of `reference.Tiles`.

    Args:
        form: the program being written.
        sizes: n, m and p.
        at: first elements of the tile in S, Z and O; kind i.
        lane: index of the lane; kind i.
        width: lanes of a tile; kind i.
        reals: the model's reals before R, then the others: settings and bounds, noise and the family's own.
    """

    clip = Tiles.clip
    hold = Tiles.hold

    def __init__(
        self, form: Form, sizes: tuple[int, int, int], at: dict[str, Value], lane: Value, width: Value,
        reals: tuple[list[Value], list[Value]],
    ) -> None:  # fmt: skip
        n, m, p = self.n, self.m, self.p = sizes
        pairs = n * (n + 1) // 2
        self._rows: list[Row] = []

        def rows(array: str, first: int, count: int) -> Rows:
            made = [Row(form, array, _index(at[array], first + k, width, lane)) for k in range(count)]
            self._rows.extend(made)
            return Rows(made)

        self.x, self.P, self.u = rows("S", 0, n), rows("S", n, pairs), rows("S", n + pairs, m)
        watch = n + pairs + m
        self.watch = [rows("S", watch + r * WATCH, WATCH) for r in range(p)]
        self.flag, self.bad = rows("S", watch + p * WATCH, 2)
        self.zu, self.y = rows("Z", 0, m), rows("Z", m, p)
        self.fq, self.fr, self.mute = rows("Z", m + p, 3)
        self.estimate, self.sigma, self.prediction = (rows("O", k * p, p) for k in range(3))
        self.innovation, self.score, self.spread = (rows("O", k * p, p) for k in range(3, 6))
        (self.nis,) = rows("O", 6 * p, 1)
        self.M, others = reals
        self.low, self.high = self.M[DRIFT : DRIFT + n], self.M[DRIFT + n : DRIFT + 2 * n]
        self.R, self.Q, self.Q_held = others[:p], others[p : p + pairs], others[p + pairs : p + 2 * pairs]
        self.own = np.empty(len(others) - p - 2 * pairs, object)
        self.own[:] = others[p + 2 * pairs :]

    def flush(self) -> None:
        """Stores every row that has changed."""
        for row in self._rows:
            row.flush()


def _index(base: Value, row: int, width: Value, lane: Value) -> Callable[[], Value]:
    return lambda: (base + width * row) + lane
