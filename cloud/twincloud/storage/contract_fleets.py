"""The part of the store contract that keeps fleets and gathers what their members say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twincloud.filters import Filter
from twincloud.storage.gathered import Muster
from twincloud.storage.records import Page, TwinKey
from twincloud.storage.records_fleets import FleetRecord, FleetSpec
from twincloud.storage.records_twins import Demand


class Fleets(Protocol):
    """Fleets; see `storage.fleets`."""

    def put_fleet(
        self, tenant: str, name: str, spec: FleetSpec, *, by: str, now_ns: int, demand: Demand
    ) -> FleetRecord:
        """Makes or replaces a fleet; the same content twice changes nothing.

        Raises:
            InputError: FILTER_INVALID.
            MissingError: UNKNOWN_TWIN for a member that is not there.
            ConflictError: PRECONDITION_FAILED; LIMIT_EXCEEDED for more fleets than a tenant may have.
        """
        ...

    def delete_fleet(self, tenant: str, name: str, *, now_ns: int, demand: Demand) -> None:
        """Forgets a fleet, its members stay; raises UNKNOWN_FLEET, PRECONDITION_FAILED."""
        ...

    def fleet(self, tenant: str, name: str) -> FleetRecord:
        """One fleet; raises UNKNOWN_FLEET with the nearest name."""
        ...

    def fleets(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[FleetRecord]:
        """Fleets by name; members of static ones are not listed with them."""
        ...

    def fleet_names(
        self, record: FleetRecord, chosen: Filter | None, *, limit: int = 100, token: str = ""
    ) -> Page[TwinKey]:
        """Members by site and name; of a filter all that its columns let pass."""
        ...

    def fleet_muster(
        self, record: FleetRecord, chosen: Filter | None, kept: Muster | None, among: Sequence[TwinKey] | None = None
    ) -> Muster:
        """The fleet as it stands; see `storage.musters`.

        Args:
            record: the fleet.
            chosen: its filter, None for a static one.
            kept: the muster before, changed in place.
            among: the members, where the filter tests what is no column.
        """
        ...

    def newest_values(
        self, record: FleetRecord, chosen: Filter | None, kept: Muster | None, among: Sequence[TwinKey] | None = None
    ) -> Muster:
        """The same with `newest` of this moment alone: its standings stay behind until `fleet_muster` is asked."""
        ...
