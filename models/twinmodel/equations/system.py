"""A model file as one system of checked expressions: right-hand sides, outputs, and what lies between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from twinmodel.equations.blocks import Block, Blocks, Table
from twinmodel.equations.dimension import Axes, Checked, assign, check, rate_of
from twinmodel.equations.families import network, quadratic, unit_of
from twinmodel.equations.load import Document
from twinmodel.equations.parse import Expr, Name, Op, Source, names, nearest, parse
from twinmodel.equations.schema import STATIC, offset_name
from twinmodel.errors import InputError
from twinmodel.units import DIMENSIONLESS, Unit
from twinmodel.units import parse as parse_unit

Group = list[tuple[Expr, Source]]


@dataclass(frozen=True, slots=True)
class System:
    """Checked expressions of a model, each in the unit of what it defines.

    Attributes:
        rates: derivative of each state, or the next state where the model steps once a tick.
        outputs: value of each output.
        definitions: values between them, in an order in which each needs only those before it.
        places: where those of the file stand.
        blocks: tables and weights they read.
        output_units: unit text of each output.
    """

    rates: Group
    outputs: Group
    definitions: dict[str, Expr]
    places: dict[str, Source]
    blocks: Blocks
    output_units: tuple[str, ...]


@dataclass(slots=True)
class _Assembly:
    """What is known while a system is put together."""

    document: Document
    units: dict[str, Unit]
    axes: dict[str, Axes]
    definitions: dict[str, Expr] = field(default_factory=dict)
    places: dict[str, Source] = field(default_factory=dict)
    dense: dict[str, Block] = field(default_factory=dict)

    def check(self, expr: Expr, source: Source) -> Checked:
        return check(expr, self.units, source, self.axes)


def assemble(document: Document) -> System:
    """Reads and checks every expression of a model file.

    Raises:
        ConfigError: EQUATION_INVALID, UNIT_UNKNOWN or VALUE_INVALID with the place.
    """
    units, axes = declared_units(document), _axes(document)
    work = _Assembly(document, units, axes)
    _define(work)
    rates, read = _rates(work)
    outputs: Group = []
    texts: list[str] = []
    if document.spec.network is not None:
        parts = network(
            document, document.spec.network, "network", document.spec.network.outputs or list(document.spec.outputs)
        )
        work.definitions |= parts.definitions
        work.dense |= parts.dense
        read |= parts.results
    for name in document.spec.outputs:
        expr, source, text = _output(work, name, read)
        outputs.append((expr, source))
        texts.append(text)
    blocks = Blocks({name: _table(document, name) for name in document.spec.tables}, work.dense)
    return System(rates, outputs, work.definitions, work.places, blocks, tuple(texts))


def declared_units(document: Document) -> dict[str, Unit]:
    """Units of states, inputs and params.

    Raises:
        ConfigError: UNIT_UNKNOWN with the place.
    """
    spec = document.spec
    groups: dict[str, Mapping[str, object]] = {"states": spec.states, "inputs": spec.inputs, "params": spec.params}
    return {
        name: read_unit(document, str(getattr(entry, "unit", "")), group, name, "unit")
        for group, entries in groups.items()
        for name, entry in entries.items()
    }


def read_unit(document: Document, text: str, *keys: str) -> Unit:
    """A unit, refused at its place."""
    try:
        return parse_unit(text)
    except InputError as error:
        raise document.fail(error.reason, error.message, *keys) from error


def _axes(document: Document) -> dict[str, Axes]:
    axes = {}
    for name, table in document.spec.tables.items():
        units = [read_unit(document, table.x.unit, "tables", name, "x", "unit")]
        if table.y is not None:
            units.append(read_unit(document, table.y.unit, "tables", name, "y", "unit"))
        axes[name] = Axes(tuple(units), read_unit(document, table.unit, "tables", name, "unit"))
    return axes


def _table(document: Document, name: str) -> Table:
    table = document.spec.tables[name]
    ys = None if table.y is None else np.array(table.y.at, np.float64)
    return Table(np.array(table.x.at, np.float64), np.array(table.values, np.float64), ys)


def _define(work: _Assembly) -> None:
    """Definitions in the order they need each other, whatever order the file has."""
    document = work.document
    given = document.spec.define
    sources = {name: document.source(text, "define", name) for name, text in given.items()}
    parsed = {name: parse(source) for name, source in sources.items()}
    for name in _order(parsed, sources):
        checked = work.check(parsed[name], sources[name])
        work.definitions[name] = checked.expr
        work.places[name] = sources[name]
        work.units[name] = checked.unit or DIMENSIONLESS


def _order(parsed: Mapping[str, Expr], sources: Mapping[str, Source]) -> list[str]:
    needs = {name: {n: at for n, at in names(expr).items() if n in parsed} for name, expr in parsed.items()}
    done: list[str] = []
    path: list[str] = []

    def visit(name: str, needed_by: str, at: int) -> None:
        if name in done:
            return
        if name in path:
            loop = [*path[path.index(name) :], name]
            sources[needed_by].fail(at, f"algebraic loop: {' needs '.join(loop)}", loop=" ".join(loop))
        path.append(name)
        for other, place in needs[name].items():
            visit(other, name, place)
        path.pop()
        done.append(name)

    for name in parsed:
        visit(name, name, 0)
    return done


def _rates(work: _Assembly) -> tuple[Group, dict[str, Expr]]:
    """Right-hand sides, and outputs that come along with them."""
    document, spec = work.document, work.document.spec
    if spec.family in STATIC:
        return [(Name(name), document.source(name, "states")) for name in spec.states], {}
    if spec.operators is not None:
        parts, read = quadratic(document)
        work.definitions |= parts.definitions
        work.dense |= parts.dense
        source = document.source("", "operators")
        return [(expr, source) for expr in parts.results.values()], read
    mark = "+" if spec.discrete else "'"
    expected = [f"{name}{mark}" for name in spec.states]
    for key in spec.equations:
        if key not in expected:
            raise document.fail("EQUATION_INVALID", f"no such state{nearest(key, expected)}", "equations", key)
    rates: Group = []
    for name in spec.states:
        key = f"{name}{mark}"
        if key not in spec.equations:
            raise document.fail("EQUATION_INVALID", f"state {name} has no equation {key}", "equations")
        source = document.source(spec.equations[key], "equations", key)
        target = work.units[name] if spec.discrete else rate_of(work.units[name])
        rates.append((assign(work.check(parse(source), source), target, source), source))
    return _corrected(work, rates), {}


def _corrected(work: _Assembly, rates: Group) -> Group:
    """Right-hand sides with the bounded correction that a network adds to some of them."""
    document, given = work.document, work.document.spec.residual
    if given is None:
        return rates
    results = given.outputs or list(document.spec.states)
    for name in results:
        if name not in document.spec.states:
            raise document.fail("VALUE_INVALID", f"{name} is no state", "residual", "outputs")
        if name not in given.bounds:
            raise document.fail("VALUE_INVALID", f"the correction of {name} needs bounds", "residual")
    parts = network(document, given, "residual", results)
    work.definitions |= parts.definitions
    work.dense |= parts.dense
    corrected: Group = []
    for name, (expr, source) in zip(document.spec.states, rates, strict=True):
        total = Op("add", (expr, parts.results[name])) if name in parts.results else expr
        corrected.append((total, source))
    return corrected


def _output(work: _Assembly, name: str, read: Mapping[str, Expr]) -> tuple[Expr, Source, str]:
    """Checked expression, place and unit text of one output."""
    document = work.document
    output = document.spec.outputs[name]
    short = isinstance(document.tree["outputs"][name], (str, int, float))
    if output.value is None:
        if name not in read:
            raise document.fail("VALUE_INVALID", "an expression is needed: the file holds no C and D", "outputs", name)
        read_unit(document, output.unit or "", "outputs", name, "unit")
        source = document.source(name, "outputs", name)
        return _shifted(work, name, read[name]), source, output.unit or ""
    source = document.source(output.value, "outputs", name, *([] if short else ["value"]))
    checked = work.check(parse(source), source)
    text = unit_of(document.spec, output)
    if text is None and checked.unit not in {None, DIMENSIONLESS}:
        source.fail(0, f"the unit cannot be told by name; write {name}: {{value: ..., unit: ...}}")
    unit = read_unit(document, text or "", "outputs", name, "unit")
    return _shifted(work, name, assign(checked, unit, source)), source, text or ""


def _shifted(work: _Assembly, name: str, expr: Expr) -> Expr:
    """An output of a static model with its offset."""
    return Op("add", (expr, Name(offset_name(name)))) if work.document.spec.family in STATIC else expr
