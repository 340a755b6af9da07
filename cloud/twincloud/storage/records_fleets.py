"""The records of fleets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twincloud.storage.records import TwinKey
from twincloud.twins.aggregate import Standing

MEASURED = "measured"
ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What people say a fleet is: a filter, or else its members."""

    description: str = ""
    filter: str = ""
    members: tuple[TwinKey, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetRecord:
    """A fleet; `spec.members` is empty where a filter finds them."""

    tenant: str
    name: str
    spec: FleetSpec
    revision: int
    created_ns: int
    updated_ns: int
    updated_by: str


@dataclass(frozen=True, slots=True)
class Apart:
    """A member whose unit has another dimension than the others', by its place in the fleet's order."""

    member: int
    unit: str


@dataclass(slots=True)
class PropertyStanding:
    """One property of a fleet in one role.

    Attributes:
        role: `measured` or `estimated`.
        unit: the one that most members have; values of the others are converted to it.
        members: places of those that have it, in the fleet's order; row n of `standing` is member `members[n]`.
        standing: their newest readings and the sums.
        apart: those left out.
    """

    name: str
    role: str
    unit: str
    members: NDArray[np.intp]
    standing: Standing
    apart: tuple[Apart, ...] = ()


@dataclass(slots=True)
class FleetStanding:
    """A fleet as it stands: its members and their newest readings by property.

    Attributes:
        sites, twins: names of the members, by site and name.
        gateway: number of each member's gateway, -1 for none; `connected` and `last_seen_ns` are by that number.
        models: names of model versions by their number.
        properties: in the order of names and roles.
        changed: members' readings that were taken at the last refresh.
    """

    sites: tuple[str, ...]
    twins: tuple[str, ...]
    gateway: NDArray[np.int32]
    connected: NDArray[np.bool_]
    last_seen_ns: NDArray[np.int64]
    models: tuple[str, ...]
    properties: tuple[PropertyStanding, ...]
    changed: int = 0

    def __len__(self) -> int:
        return len(self.twins)
