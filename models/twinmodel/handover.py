"""What one model takes over from another at a swap: states and held inputs of one name and one dimension.

Everything else begins at the new model's start; the covariance of what is taken over is inflated, because the new
model has not earned it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.kernel.arena import Layout, pack, unpack
from twinmodel.package.archive import ModelPackage
from twinmodel.units import convert, parse, same_dimension

F64 = NDArray[np.float64]
INFLATION: Final = 4.0


@dataclass(frozen=True, slots=True)
class Legacy:
    """A filter as the next one sees it.

    Attributes:
        package: its model.
        layout: of its state rows.
        rows: its state rows after its last tick.
    """

    package: ModelPackage
    layout: Layout
    rows: F64


def take_over(old: Legacy, new: Legacy) -> F64:
    """State rows of the new model, beginning with `new.rows`, a fresh start."""
    rows = new.rows.copy()
    layout = new.layout
    mapped = _states(old, new, rows)
    theirs = unpack(old.rows[old.layout.n : old.layout.held], old.layout.n)
    mine = unpack(rows[layout.n : layout.held], layout.n)
    taken = [i for i, _, _ in mapped]
    # A covariance of the start beside variances that were taken over could leave P without a root.
    mine[taken, :] = mine[:, taken] = 0.0
    for i, a, scale in mapped:
        for j, b, other in mapped:
            mine[i, j] = INFLATION * scale * other * theirs[a, b]
    rows[layout.n : layout.held] = pack(mine)
    held = old.rows[old.layout.held : old.layout.drift]
    origin = {port.name: (float(v), port.unit) for port, v in zip(old.package.inputs, held, strict=True)}
    for k, port in enumerate(new.package.inputs):
        value, unit = origin.get(port.name, (0.0, None))
        if unit is not None and same_dimension(unit, port.unit):
            rows[layout.held + k] = convert(value, unit, port.unit)
    return rows


def _states(old: Legacy, new: Legacy, rows: F64) -> list[tuple[int, int, float]]:
    """Writes the states that map; (new position, old position, scale of the unit) of each."""
    origin = {s.name: (i, s.unit) for i, s in enumerate(old.package.manifest.states)}
    low, high = new.package.tensors["low"], new.package.tensors["high"]
    mapped = []
    for i, state in enumerate(new.package.manifest.states):
        at, unit = origin.get(state.name, (0, None))
        if unit is None or not same_dimension(unit, state.unit):
            continue
        rows[i] = min(max(convert(float(old.rows[at]), unit, state.unit), float(low[i])), float(high[i]))
        mapped.append((i, at, parse(unit).scale / parse(state.unit).scale))
    return mapped
