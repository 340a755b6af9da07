"""Points that fill a box evenly: Halton's sequence, turned by a random shift (Cranley and Patterson, 1976)."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray


def points(count: int, dimensions: int, random: Random | None = None) -> NDArray[np.float64]:
    """Points in the unit box, shape (count, dimensions); the same for the same state of `random`, None for no shift."""
    columns = []
    for base in _primes(dimensions):
        index = np.arange(1, count + 1)
        value, part = np.zeros(count), 1.0 / base
        while np.any(index):
            value += part * (index % base)
            index //= base
            part /= base
        shift = 0.0 if random is None else random.uniform(0.0, 1.0)
        columns.append((value + shift) % 1.0)
    return np.stack(columns, axis=1) if columns else np.empty((count, 0))


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found
