"""Models written in Python: the same document, and so the same package to the byte, as a model file.

    m = Model("two-tanks", version="1.0.0", family="ode", dt="1s")
    h = m.state("h", unit="m", start=0.2, min=0, max=2)
    pump = m.input("pump", unit="V", min=0, max=10, nominal=5)
    k, g = m.param("k", 0.02, unit="m^0.5/s"), m.param("g", 0.002, unit="m/(V s)")
    m.rate(h, g*pump - k*sqrt(maximum(h, 0)))
    m.output("level", h, min=0, max=2)
    m.noise(process={h: 0.0002}, measurement={"level": 0.002})
    blob = build_document(m.document())

Keys are those of the file (docs/models.md); what is wrong is refused by `document`, with the line of `m.yaml()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinmodel.equations.load import Document, read
from twinmodel.equations.revise import dump
from twinmodel.equations.symbols import (
    Symbol,
    cos,
    exp,
    log,
    lookup,
    maximum,
    minimum,
    sin,
    sqrt,
    tanh,
    text_of,
    where,
)
from twinmodel.errors import InputError

__all__ = ["Model", "Symbol", "cos", "exp", "log", "maximum", "minimum", "sin", "sqrt", "tanh", "where"]


class Model:
    """A model file in the making; order of states, inputs, params and outputs is the order of the calls."""

    def __init__(self, name: str, *, version: str, family: str, dt: str, **head: Any) -> None:
        """Starts a model; `head` takes description, integrator and substeps."""
        self._name = name
        self._tree: dict[str, Any] = {"model": name, "version": version, "family": family, "dt": dt, **head}

    def state(self, name: str, **keys: Any) -> Symbol:
        """A state: unit, start, sigma, min, max."""
        return self._named("states", name, keys)

    def input(self, name: str, **keys: Any) -> Symbol:
        """An input: unit, min, max, nominal, quantity, tag, quality."""
        return self._named("inputs", name, keys)

    def param(self, name: str, value: float, **keys: Any) -> Symbol:
        """A constant: unit, bounds, calibrate, sigma."""
        return self._named("params", name, {"value": float(value), **keys})

    def define(self, name: str, value: Symbol | float | str) -> Symbol:
        """A name for an expression."""
        return self._named("define", name, text_of(value))

    def table(
        self,
        name: str,
        x: Sequence[float],
        values: Sequence[Any],
        y: Sequence[float] | None = None,
        *,
        unit: str = "",
        x_unit: str = "",
        y_unit: str = "",
    ) -> Callable[..., Symbol]:
        """A table; call it with one or two coordinates to look up in it."""
        axes: dict[str, Any] = {"x": {"at": x, "unit": x_unit}}
        if y is not None:
            axes["y"] = {"at": y, "unit": y_unit}
        self._named("tables", name, {**axes, "values": values, "unit": unit})
        return lambda *coordinates: lookup(name, *coordinates)

    def rate(self, state: Symbol | str, value: Symbol | float | str) -> None:
        """The derivative of a state."""
        self._named("equations", f"{text_of(state)}'", text_of(value))

    def next(self, state: Symbol | str, value: Symbol | float | str) -> None:
        """The next value of a state, of a model that steps once a tick."""
        self._named("equations", f"{text_of(state)}+", text_of(value))

    def output(self, name: str, value: Symbol | float | str | None = None, **keys: Any) -> None:
        """An output: unit, min, max, nominal, resolution, quantity, tag, quality; no value where a network gives it."""
        self._named("outputs", name, keys if value is None else {"value": text_of(value), **keys})

    def noise(self, **groups: Mapping[Any, float]) -> None:
        """Standard deviations: process, measurement, inputs; by name or symbol."""
        self._section("noise", groups)

    def part(self, key: str, **keys: Any) -> None:
        """Any other part of the file: network, residual, operators, matrices, regime, drift, limits, provenance."""
        self._section(key, keys)

    def yaml(self) -> str:
        """The model as the text of a model file."""
        return dump(self._tree)

    def document(self, path: str | None = None) -> Document:
        """The model, checked for shape; `path` is where files of weights are sought beside.

        Raises:
            ConfigError: as `load.read`, with the line of `yaml()`.
        """
        return read(self.yaml(), path or f"<{self._name}>")

    def _named(self, group: str, name: str, entry: Any) -> Symbol:
        entries = self._tree.setdefault(group, {})
        if name in entries:
            raise InputError("VALUE_INVALID", f"{group}.{name} is given twice")
        entries[name] = entry
        return Symbol(name)

    def _section(self, key: str, values: Mapping[str, Any]) -> None:
        section = self._tree.setdefault(key, {})
        for name, value in values.items():
            named = isinstance(value, Mapping)
            section[name] = {text_of(k): v for k, v in value.items()} if named else value
