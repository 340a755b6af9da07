"""History of a twin as long as it is, window after window: each is one transaction and bounded in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from twincloud.storage.contract import TwinKey
from twincloud.storage.packing import unpack_binding
from twincloud.storage.readings import twin_row
from twincloud.storage.records_exports import Plan, Window
from twincloud.storage.tiers import Run, Wanted, joined
from twincloud.storage.timeline import TimelineStore, bound
from twincloud.storage.views import outputs_of
from twincloud.twins.history import KNOWN_ROLES
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError

HOUR_NS = 3_600 * SECOND_NS
WINDOW_NS_MIN = 60 * SECOND_NS
SIGNALS_A_DAY = 16
"""So many signals are read a day at a time; more of them in shorter windows."""


class ExportStore(TimelineStore):
    """Reads for exports; see `Exports`."""

    def plan_export(
        self, key: TwinKey, properties: Sequence[str], roles: Sequence[str], from_ns: int, to_ns: int
    ) -> Plan:
        """See `Exports.plan_export`."""
        unknown = [role for role in roles if role not in KNOWN_ROLES]
        if unknown:
            raise InputError(
                "REQUEST_INVALID", f"roles: {unknown[0]!r} is unknown", hint=f"use {', '.join(KNOWN_ROLES)}"
            )
        with self._database.read(key.tenant) as connection:
            row = twin_row(connection, key)
            binding = unpack_binding(row["binding"])
            known = {*binding.properties, *outputs_of(binding, self._catalogue_by_id(connection, row["schema_id"]))}
            missing = sorted(set(properties) - known)
            if missing:
                has = ", ".join(sorted(known))
                raise MissingError(
                    "NOT_FOUND", f"twin {key.twin!r} has no property {missing[0]!r}", hint=f"it has {has}"
                )
            columns: dict[tuple[str, str], Mapping[int, str]] = {}
            owners: tuple[int, ...] = ()
            for prop in properties or sorted(known):
                names, owners = self._names(connection, key, prop, roles)
                for role, by_schema in names.items():
                    there = {
                        schema_id: name
                        for schema_id, name in by_schema.items()
                        if name in self._catalogue_by_id(connection, schema_id).by_name
                    }
                    if there:
                        columns[prop, role] = there
        signals = frozenset(name for by_schema in columns.values() for name in by_schema.values())
        return Plan(key, columns, dict(binding.units), Wanted(key.tenant, owners, signals, from_ns, to_ns))

    def export_windows(self, plan: Plan) -> Iterator[Window]:
        """See `Exports.export_windows`."""
        step_ns = max(HOUR_NS, 24 * HOUR_NS * SIGNALS_A_DAY // max(SIGNALS_A_DAY, len(plan.wanted.signals)))
        start_ns, step_max_ns = plan.wanted.from_ns, step_ns
        while start_ns < plan.wanted.to_ns:
            # Windows end where days end, so that a file of the archive is gone through once.
            end_ns = min(plan.wanted.to_ns, (start_ns // step_ns + 1) * step_ns)
            try:
                yield self._window(plan, start_ns, end_ns)
            except InputError as error:
                if error.reason != "LIMIT_EXCEEDED" or step_ns <= WINDOW_NS_MIN:
                    raise
                step_ns //= 2
                continue
            start_ns, step_ns = end_ns, min(step_max_ns, step_ns * 2)

    def _window(self, plan: Plan, from_ns: int, to_ns: int) -> Window:
        found = self.runs(replace(plan.wanted, from_ns=from_ns, to_ns=to_ns))
        window: dict[tuple[str, str], list[Run]] = {}
        for column, by_schema in plan.columns.items():
            parts: dict[tuple[int, str], list[Run]] = {}
            for name in sorted(set(by_schema.values()) & found.keys()):
                for run in found[name]:
                    mine = bound(run, name, by_schema)
                    if len(mine):
                        parts.setdefault((int(mine.kind), mine.unit), []).append(mine)
            if parts:
                window[column] = [joined(parts[key]) for key in sorted(parts)]
        return window
