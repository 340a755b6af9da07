"""What exports need of the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from twincloud.storage.records import TwinKey
from twincloud.storage.records_exports import Plan, Window


class Exports(Protocol):
    """History as long as it is."""

    def plan_export(
        self, key: TwinKey, properties: Sequence[str], roles: Sequence[str], from_ns: int, to_ns: int
    ) -> Plan:
        """What an export of [from_ns, to_ns) reads; no properties are all.

        Raises:
            MissingError: UNKNOWN_TWIN, NOT_FOUND with the properties there are.
            InputError: REQUEST_INVALID for a role.
        """
        ...

    def export_windows(self, plan: Plan) -> Iterator[Window]:
        """The samples, window after window, each a transaction of its own; raises what tiers raise."""
        ...
