"""Runs as a table for people: one row per time, a column per property and role, units in the header.

    time,flow [m3/h],flow quality,flow.estimate [m3/h]
    2026-03-01T12:00:00.000000000Z,21.37,good,21.4

Two samples of one time make two rows. Numbers are written with the fewest digits that read as the same double.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from twincloud.archive.runs import RunLike
from twinmodel.quality import describe
from twinmodel.signal import Kind

Column: TypeAlias = tuple[str, str]
"""(property, role)."""

MEASURED = ("measured", "substitute")
"""Roles whose quality has a column of its own."""


def header(columns: Sequence[Column], units: Mapping[str, str]) -> str:
    """The first line: names, and units in brackets."""
    names = ["time"]
    for prop, role in columns:
        unit = units.get(prop, "")
        name = prop if role == "measured" else f"{prop}.{role}"
        names.append(f"{name} [{unit}]" if unit else name)
        if role in MEASURED:
            names.append(f"{name} quality")
    return _line([names])


def lines(columns: Sequence[Column], window: Mapping[Column, Sequence[RunLike]], time: Callable[[int], str]) -> str:
    """The lines of a window.

    Args:
        columns: as in the header.
        window: column -> runs of it, each in order of time.
        time: RFC 3339 text of a time.
    """
    rows: dict[tuple[int, int], list[object]] = {}
    width = 1 + sum(2 if role in MEASURED else 1 for _, role in columns)
    place = 1
    for column in columns:
        seen: dict[int, int] = {}
        for run in window.get(column, ()):
            for t_ns, value, quality in zip(run.t_ns.tolist(), _texts(run), run.quality.tolist(), strict=True):
                nth = seen[t_ns] = seen.get(t_ns, -1) + 1
                row = rows.get((t_ns, nth))
                if row is None:
                    row = rows[t_ns, nth] = [time(t_ns), *[""] * (width - 1)]
                row[place] = value
                if column[1] in MEASURED:
                    row[place + 1] = describe(quality)
        place += 2 if column[1] in MEASURED else 1
    return _line([rows[key] for key in sorted(rows)])


def _texts(run: RunLike) -> list[object]:
    if run.kind is Kind.BOOL:
        return ["true" if value else "false" for value in run.value.tolist()]
    if run.kind is Kind.FLOAT:
        # A value that could not be read has no number; its quality says why.
        return ["" if np.isnan(value) else repr(value) for value in run.value.tolist()]
    return list(run.value.tolist())


def _line(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
