"""What differs between two packages: facts, parameters, noise and equations, each by its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinmodel.package.archive import ModelPackage
from twinmodel.rom.readable import equations

# Facts about the file or computed from other facts: they differ whenever anything does.
_DERIVED: Final = {"schema", "tensors", "parity", "registers"}
# Arrays that facts or equations tell already.
_TOLD: Final = {"x0", "low", "high", "P0", "R", "params", "inputs_nominal", "parity_u", "parity_y"}
_MATRICES: Final = {"A", "B", "a", "C", "D", "c"}
_PROGRAMS: Final = {"rates", "rate_results", "readings", "reading_results", "jacobian", "jacobian_results", "consts"}


@dataclass(frozen=True, slots=True)
class Change:
    """One fact that is not the same.

    Attributes:
        place: such as `params.k1.value` or `equations.h1'`.
        before, after: None where there is none.
        relative: (after - before) / |before| of numbers, None where that says nothing.
    """

    place: str
    before: object
    after: object
    relative: float | None


def differences(old: ModelPackage, new: ModelPackage) -> list[Change]:
    """Every difference of content, in the order of the manifest; empty when the ids are equal."""
    if old.model_id == new.model_id:
        return []
    before, after = dict(_facts(old)), dict(_facts(new))
    changes = [
        Change(place, before.get(place), after.get(place), _relative(before.get(place), after.get(place)))
        for place in dict.fromkeys((*before, *after))
        if before.get(place) != after.get(place)
    ]
    return changes + list(_arrays(old, new, equal_text=not any(c.place.startswith("equations.") for c in changes)))


def _facts(package: ModelPackage) -> Iterator[tuple[str, object]]:
    fields = package.manifest.model_dump(mode="json", by_alias=True)
    for name, value in fields.items():
        if name not in _DERIVED:
            yield from _flat(name, value)
    for left, right in equations(package).items():
        yield f"equations.{left}", right


def _flat(place: str, value: Any) -> Iterator[tuple[str, object]]:
    """Leaves of a fact: entries of lists are named by their name, so that a new one shifts no other."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{place}.{key}", part)
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) and "name" in v for v in value):
        yield f"{place}.order", [v["name"] for v in value]
        for entry in value:
            yield from _flat(f"{place}.{entry['name']}", {k: v for k, v in entry.items() if k != "name"})
    elif value not in (None, [], ""):
        yield place, value


def _relative(before: object, after: object) -> float | None:
    pair = (before, after)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in pair) or not before:
        return None
    assert isinstance(before, int | float)
    assert isinstance(after, int | float)
    return (after - before) / abs(before)


def _arrays(old: ModelPackage, new: ModelPackage, *, equal_text: bool) -> Iterator[Change]:
    """Arrays that no fact tells; programs only where the text of the equations is the same."""
    skipped = _TOLD | (_MATRICES if old.manifest.kernel == new.manifest.kernel == "linear" else set())
    if not equal_text or old.manifest.kernel != new.manifest.kernel:
        skipped |= _PROGRAMS | _MATRICES
    for name in dict.fromkeys((*old.tensors, *new.tensors)):
        if name in skipped:
            continue
        before, after = old.tensors.get(name), new.tensors.get(name)
        if before is None or after is None or before.shape != after.shape:
            yield Change(f"arrays.{name}", _shape(before), _shape(after), None)
        elif not np.array_equal(before, after):
            count = int((before != after).sum())
            largest = float(np.abs(after.astype(float) - before).max())
            scale = float(np.abs(before).max())
            said = f"{count} of {before.size} numbers, by up to {largest:.6g}"
            yield Change(f"arrays.{name}", _shape(before), said, largest / scale if scale else None)


def _shape(array: NDArray[Any] | None) -> str | None:
    return None if array is None else " x ".join(map(str, array.shape)) or "1"
