"""What an export reads, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twincloud.storage.records import TwinKey
from twincloud.storage.tiers import Run, Wanted


@dataclass(frozen=True, slots=True)
class Plan:
    """What an export reads.

    Attributes:
        key: the twin.
        columns: (property, role) -> signal by catalogue id.
        units: property -> unit.
        wanted: all signals, over the whole span.
    """

    key: TwinKey
    columns: Mapping[tuple[str, str], Mapping[int, str]]
    units: Mapping[str, str]
    wanted: Wanted


Window = Mapping[tuple[str, str], Sequence[Run]]
"""(property, role) -> its runs in a window, in canonical order, one per kind and unit."""
