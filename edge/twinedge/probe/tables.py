"""Aligned columns for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> str:
    """Rows as aligned columns below their head; the last column is not padded."""
    cells = [list(head), *[["" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[n]) for row in cells) for n in range(len(head))]
    return "\n".join(
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in cells
    )


def pairs(document: Mapping[str, object], *, indent: str = "") -> str:
    """Keys and values as two columns."""
    width = max((len(key) for key in document), default=0)
    return "\n".join(f"{indent}{key:<{width}}  {value}" for key, value in document.items())
