"""Measured data from a CSV file, put on a model's grid: what `model run` and calibration both read.

    time,pump,level1 [cm]
    2026-01-31T12:00:00Z,4.8,31.2

The time is ISO 8601 (UTC where no zone is given) or seconds. A header may name a unit in brackets; values are then
converted, else they are in the unit of the model's port. An empty cell is no sample. Inputs are held until they are
old, outputs count at the tick they came for alone, and a long silence begins a new segment.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from twinmodel.align import resample
from twinmodel.errors import ConfigError, InputError
from twinmodel.importers.times import NAMES as TIME_NAMES
from twinmodel.importers.times import read_times
from twinmodel.units import convert

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
BYTES_MAX: Final = 256 << 20
ROWS_MAX: Final = 2_000_000
COLUMNS_MAX: Final = 1_000
CELLS_MAX: Final = 1 << 25
SEGMENTS_MAX: Final = 10_000
GAP_ROWS: Final = 10
AGE_ROWS: Final = 3
_MISSING: Final = {"", "nan", "na", "n/a", "null", "none", "-"}
_HEADER: Final = re.compile(r"\s*(?P<name>.*?)\s*(?:\[(?P<unit>[^\]]*)\])?\s*")


class Named(Protocol):
    """An input or an output."""

    @property
    def name(self) -> str:
        """Name in the model file."""
        ...

    @property
    def unit(self) -> str:
        """Unit of its values."""
        ...


class Ports(Protocol):
    """What a model reads and says: a `Manifest`, a `ModelPackage`, an `Estimator`."""

    @property
    def inputs(self) -> Sequence[Named]:
        """In the order of `u`."""
        ...

    @property
    def outputs(self) -> Sequence[Named]:
        """In the order of `y`."""
        ...

    @property
    def dt_ns(self) -> int:
        """Length of a tick."""
        ...


@dataclass(frozen=True, slots=True)
class Dataset:
    """Measured inputs and outputs of a model at its ticks.

    Attributes:
        t_ns: multiples of dt, rising, shape (ticks,).
        u: inputs, NaN where there is no value or only an old one, shape (ticks, m).
        y: outputs, NaN where none was measured for this tick, shape (ticks, p).
        segments: (first, end) rows; inside a segment each tick follows the one before by dt, between two is a gap.
        dt_ns: length of a tick.
        inputs, outputs: names of the columns of u and y.
        rows: rows of the file.
        sha256: hex hash of the file.
        unused: columns of the file that no port is named after.
    """

    t_ns: I64
    u: F64
    y: F64
    segments: tuple[tuple[int, int], ...]
    dt_ns: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rows: int = 0
    sha256: str = ""
    unused: tuple[str, ...] = field(default=())

    def after(self, t_ns: int | None) -> Dataset:
        """The part of it that is newer than `t_ns`; all of it for None."""
        first = 0 if t_ns is None else int(np.searchsorted(self.t_ns, t_ns, "right"))
        kept = tuple((max(a, first) - first, b - first) for a, b in self.segments if b > first)
        return replace(self, t_ns=self.t_ns[first:], u=self.u[first:], y=self.y[first:], segments=kept)


def read_dataset(
    path: Path,
    ports: Ports,
    mapping: Mapping[str, str] | None = None,
    *,
    gap_ns: int | None = None,
    measured: bool = True,
) -> Dataset:
    """Reads a CSV file for a model.

    Args:
        path: the file; `,`, `;` or tab between the cells (`;`: numbers may have a decimal comma).
        ports: the model's inputs and outputs with their units, and its dt.
        mapping: port, or `time` -> column; ports that are not named have the column of their own name.
        measured: whether at least one output must have a column.
        gap_ns: silence that ends a segment; ten times the usual distance of rows, at least ten ticks, by default.

    Raises:
        ConfigError: FILE_MISSING or VALUE_INVALID, with path, line and column where there is one.
        InputError: UNIT_CLASH, UNIT_UNKNOWN or LIMIT_EXCEEDED.
    """
    raw = _read(path)
    table = _Table.of(raw, path)
    names = {"time", *(p.name for p in (*ports.inputs, *ports.outputs))}
    for name in mapping or {}:
        if name not in names:
            known = ", ".join(sorted(names))
            raise InputError("REQUEST_INVALID", f"the mapping names {name!r}; the model has {known}", field=name)
    columns = _choose(table, ports, dict(mapping or {}), measured=measured)
    time = _time_column(table, (mapping or {}).get("time"))
    cells = table.columns([time, *(c for c in columns.values())])
    t_ns = read_times(cells[time], table.headers[time], path, table.lines)
    values = {port: _numbers(table, cells[at], at) for port, at in columns.items()}
    every: list[Named] = [*ports.inputs, *ports.outputs]
    for port in every:
        unit = table.units[columns[port.name]] if port.name in columns else None
        if unit is not None:
            values[port.name] = _converted(values[port.name], unit, port, path)
    used = {time, *columns.values()}
    unused = tuple(h for at, h in enumerate(table.headers) if at not in used)
    return _on_grid(ports, t_ns, values, gap_ns, (path, hashlib.sha256(raw).hexdigest(), unused))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError("FILE_MISSING", f"cannot read it: {error.strerror}", path=str(path)) from error
    if len(raw) > BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"{path} is larger than {BYTES_MAX >> 20} MiB; give a part of it")
    return raw


@dataclass(frozen=True, slots=True)
class _Table:
    """A file of comma-separated text, its header taken apart."""

    path: Path
    headers: tuple[str, ...]
    units: tuple[str | None, ...]
    rows: list[list[str]]
    lines: list[int]
    comma: bool

    @classmethod
    def of(cls, raw: bytes, path: Path) -> _Table:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigError("VALUE_INVALID", "the file is no UTF-8 text", path=str(path)) from error
        head = next((line for line in io.StringIO(text) if line.strip() and not line.startswith("#")), "")
        delimiter = max(",;\t", key=head.count)
        rows: list[list[str]] = []
        lines: list[int] = []
        count = 0
        for line, row in _rows(text, delimiter, path):
            count += len(row)
            if len(rows) > ROWS_MAX or count > CELLS_MAX:
                message = f"{path} has more than {ROWS_MAX} rows or {CELLS_MAX} cells; give a part of it"
                raise InputError("LIMIT_EXCEEDED", message)
            rows.append(row)
            lines.append(line)
        if len(rows) < 2:
            raise ConfigError("VALUE_INVALID", "a header and at least one row are needed", path=str(path))
        header, header_line = rows.pop(0), lines.pop(0)
        if len(header) > COLUMNS_MAX:
            raise InputError("LIMIT_EXCEEDED", f"{path} has more than {COLUMNS_MAX} columns")
        names: list[str] = []
        units: list[str | None] = []
        for cell in header:
            found = _HEADER.fullmatch(cell)
            names.append(found["name"] if found else cell.strip())
            units.append(found["unit"] if found else None)
        twice = next((n for n in names if n and names.count(n) > 1), None)
        if twice is not None:
            raise ConfigError("VALUE_INVALID", f"column {twice!r} stands twice", path=str(path), line=header_line)
        return cls(path, tuple(names), tuple(units), rows, lines, delimiter == ";")

    def columns(self, wanted: Sequence[int]) -> dict[int, list[str]]:
        """Cells of some columns; a short row is an error, for its values may stand in the wrong column."""
        least, most = max(wanted) + 1, len(self.headers)
        for row, line in zip(self.rows, self.lines, strict=True):
            if not least <= len(row) <= most + 1 or any(c.strip() for c in row[most:]):
                message = f"{len(row)} cells, the header has {most}"
                raise ConfigError("VALUE_INVALID", message, path=str(self.path), line=line)
        return {at: [row[at] for row in self.rows] for at in set(wanted)}


def _rows(text: str, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and not row[0].startswith("#"):
                yield reader.line_num, row
    except csv.Error as error:
        raise ConfigError("VALUE_INVALID", str(error), path=str(path), line=reader.line_num) from error


def _choose(table: _Table, ports: Ports, mapping: dict[str, str], *, measured: bool) -> dict[str, int]:
    """Column of each port that has one."""
    place = {name: at for at, name in enumerate(table.headers) if name}
    found: dict[str, int] = {}
    for port in (*ports.inputs, *ports.outputs):
        name = mapping.get(port.name, port.name)
        if name in place:
            found[port.name] = place[name]
        elif port.name in mapping:
            _lack(table, f"{port.name} is mapped to {name!r}, which is no column")
    lacking = [p.name for p in ports.inputs if p.name not in found]
    if lacking:
        _lack(table, f"no column for input {', '.join(lacking)}")
    if measured and not any(p.name in found for p in ports.outputs):
        _lack(table, f"no column for any output ({', '.join(p.name for p in ports.outputs)})")
    return found


def _time_column(table: _Table, mapped: str | None) -> int:
    for name in (mapped,) if mapped is not None else TIME_NAMES:
        for at, header in enumerate(table.headers):
            if header == name or (mapped is None and header.lower() == name):
                return at
    return _lack(table, "no column of times" if mapped is None else f"time is mapped to {mapped!r}, which is no column")


def _lack(table: _Table, message: str) -> int:
    known = ", ".join(h for h in table.headers if h)
    hint = f"name it: --map PORT=COLUMN (--map time=COLUMN); the columns are {known}"
    raise ConfigError("VALUE_INVALID", message, hint=hint, path=str(table.path))


def _numbers(table: _Table, cells: list[str], column: int) -> F64:
    """Values of a column, NaN where a cell is empty or not finite."""
    values = np.empty(len(cells))
    for at, cell in enumerate(cells):
        text = cell.strip()
        try:
            values[at] = float(text.replace(",", ".") if table.comma else text)
        except ValueError as error:
            if text.lower() in _MISSING:
                values[at] = np.nan
                continue
            place = {"path": str(table.path), "line": table.lines[at]}
            message = f"column {table.headers[column]}: {text[:40]!r} is no number"
            raise ConfigError("VALUE_INVALID", message, hint="leave cells without a value empty", **place) from error
    return np.where(np.isfinite(values), values, np.nan)


def _converted(values: F64, unit: str, port: Named, path: Path) -> F64:
    try:
        zero, one = convert(0.0, unit, port.unit), convert(1.0, unit, port.unit)
    except InputError as error:
        raise ConfigError(error.reason, f"column of {port.name}: {error.message}", path=str(path)) from error
    return values if (zero, one) == (0.0, 1.0) else zero + (one - zero) * values


def _on_grid(
    ports: Ports, t_ns: I64, values: Mapping[str, F64], gap_ns: int | None, about: tuple[Path, str, tuple[str, ...]]
) -> Dataset:
    path, sha256, unused = about
    rows, dt = len(t_ns), ports.dt_ns
    order = np.argsort(t_ns, kind="stable")
    t_ns, values = t_ns[order], {port: column[order] for port, column in values.items()}
    told = np.zeros(rows, bool)
    for column in values.values():
        told |= ~np.isnan(column)
    if not told.any():
        raise ConfigError("VALUE_INVALID", "no row has a value", path=str(path))
    spans = _spans(t_ns[told], dt, gap_ns)
    starts = np.array([-(-first // dt) for first, _ in spans])
    counts = np.array([max(last // dt + 1 - start, 0) for (_, last), start in zip(spans, starts, strict=True)])
    width = len(ports.inputs) + len(ports.outputs)
    if int(counts.sum()) * (width + 1) > CELLS_MAX:
        message = f"{path}: {int(counts.sum())} ticks of {dt / 1e9:g} s are too many; are the times in seconds?"
        raise InputError("LIMIT_EXCEEDED", message, hint="give a part of the data, or a model with a longer dt")
    ends = np.cumsum(counts)
    segments = tuple((int(e - c), int(e)) for c, e in zip(counts, ends, strict=True) if c > 0)
    if not segments:
        raise ConfigError("VALUE_INVALID", f"no tick of {dt / 1e9:g} s lies within the data", path=str(path))
    ticks = np.concatenate([np.arange(s, s + c) * dt for s, c in zip(starts, counts, strict=True)]).astype(np.int64)
    u = [_lane(t_ns, values[p.name], ticks, dt, measured=False) for p in ports.inputs]
    y = [_lane(t_ns, values.get(p.name, np.empty(0)), ticks, dt, measured=True) for p in ports.outputs]
    names = (tuple(p.name for p in ports.inputs), tuple(p.name for p in ports.outputs))
    matrix = (_matrix(u, len(ticks)), _matrix(y, len(ticks)))
    return Dataset(ticks, *matrix, segments, dt, *names, rows, sha256, unused)


def _spans(t_ns: I64, dt: int, gap_ns: int | None) -> list[tuple[int, int]]:
    """First and last time of each stretch without a long silence; rows at one time count once."""
    apart = np.diff(t_ns)
    limit = GAP_ROWS * max(dt, _usual(apart)) if gap_ns is None else gap_ns
    cuts = np.flatnonzero(apart > limit)
    if len(cuts) >= SEGMENTS_MAX:
        raise InputError("LIMIT_EXCEEDED", f"the data has {len(cuts)} gaps longer than {limit / 1e9:g} s")
    firsts, lasts = np.append(0, cuts + 1), np.append(cuts, len(t_ns) - 1)
    return list(zip(t_ns[firsts].tolist(), t_ns[lasts].tolist(), strict=True))


def _lane(t_ns: I64, column: F64, ticks: I64, dt: int, *, measured: bool) -> F64:
    """One port at the ticks: an input is held as long as its samples usually are apart, an output for one tick."""
    if not len(column):
        return np.full(len(ticks), np.nan)
    told = ~np.isnan(column)
    t, value = t_ns[told], column[told]
    # Of rows with one time the last one of the file counts.
    last = np.append(t[1:] != t[:-1], [True])[: len(t)]
    t, value = t[last], value[last]
    # A step of 1 ns can have no older sample within it; 0 would mean no limit.
    if measured:
        return resample(t, value, ticks, max(dt - 1, 1))
    return resample(t, value, ticks, AGE_ROWS * max(dt, _usual(np.diff(t))))


def _usual(apart: I64) -> int:
    """The middle of the distances above 0, of two the lower; 0 where there is none."""
    rising = np.sort(apart[apart > 0])
    return int(rising[(len(rising) - 1) // 2]) if len(rising) else 0


def _matrix(columns: list[F64], ticks: int) -> F64:
    return np.ascontiguousarray(np.stack(columns, axis=1)) if columns else np.empty((ticks, 0))
