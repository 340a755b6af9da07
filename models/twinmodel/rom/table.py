"""A trace as a file: CSV, or JSON where the name ends in `.json`; one row a tick."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinmodel.importers.dataset import Dataset
from twinmodel.rom.run import Trace

F64 = NDArray[np.float64]

ROLES = ("measured", "estimate", "sigma", "prediction", "innovation", "drift")
FLAGS = ("drifting", "settling", "in_regime")


def trace_text(trace: Trace, outputs: Sequence[str], path: Path) -> str:
    """The content of file `path`: `time`, `OUTPUT.role` for each output, then the flags; no value is an empty cell.

    Numbers have all of their digits, so that what is read back has the same bits.
    """
    head = ["time", *(f"{output}.{role}" for output in outputs for role in ROLES), *FLAGS]
    if path.suffix.lower() == ".json":
        return json.dumps([dict(zip(head, row, strict=True)) for row in _rows(trace)], allow_nan=False) + "\n"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in _rows(trace):
        writer.writerow("" if cell is None else int(cell) if isinstance(cell, bool) else cell for cell in row)
    return text.getvalue()


def reference_text(dataset: Dataset, simulated: F64) -> str:
    """CSV of what another simulator gave, data for a fit: `time`, inputs, outputs as simulated, `OUTPUT.measured`."""
    measured = [k for k in range(len(dataset.outputs)) if np.isfinite(dataset.y[:, k]).any()]
    head = ["time", *dataset.inputs, *dataset.outputs, *(f"{dataset.outputs[k]}.measured" for k in measured)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for t_ns, cells in zip(
        dataset.t_ns.tolist(), np.hstack([dataset.u, simulated, dataset.y[:, measured]]), strict=True
    ):
        writer.writerow([_instant(t_ns), *("" if np.isnan(cell) else cell for cell in cells.tolist())])
    return text.getvalue()


def _rows(trace: Trace) -> Iterator[list[str | float | bool | None]]:
    columns = np.stack([getattr(trace, role) for role in ROLES], axis=2).reshape(len(trace.t_ns), -1)
    flags = np.stack([getattr(trace, flag) for flag in FLAGS], axis=1)
    for t_ns, cells, marks in zip(trace.t_ns.tolist(), columns, flags.tolist(), strict=True):
        yield [_instant(t_ns), *(cell if np.isfinite(cell) else None for cell in cells.tolist()), *marks]


def _instant(t_ns: int) -> str:
    whole = datetime.fromtimestamp(t_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{t_ns % 1_000_000_000:09d}Z"
