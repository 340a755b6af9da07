"""Who serves a twin by which signals, and a mark of what is stored of a span: what back-tests begin with."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select

from twincloud.storage import schema as t
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.packing import unpack_binding
from twincloud.storage.part import Part
from twincloud.storage.readings import twin_row
from twincloud.storage.records_archives import FileState
from twincloud.storage.schema_archives import archives
from twincloud.storage.schema_hours import hour_parts
from twinmodel.clock import SECOND_NS
from twinmodel.signal import Catalogue, TwinBinding


class SourceStore(Part):
    """Reads what feeds a twin; see `Clouds`."""

    def binding(self, key: TwinKey) -> tuple[GatewayKey, TwinBinding, Catalogue]:
        """Who serves a twin, and which signals make it up; raises UNKNOWN_TWIN."""
        with self._database.read(key.tenant) as connection:
            row = twin_row(connection, key)
            catalogue = self._catalogue_by_id(connection, row["schema_id"])
            gateway = GatewayKey(key.tenant, key.site, row["gateway"])
            return gateway, unpack_binding(row["binding"]), catalogue

    def commits_in(self, gateway: GatewayKey, from_ns: int, to_ns: int) -> str:
        """A text that changes with every commit of the gateway that has samples in a span."""
        with self._database.read(gateway.tenant) as connection:
            wanted = {"of": self._gateway_id(connection, gateway), "from_ns": from_ns, "to_ns": to_ns}
            blocks = connection.execute(_COMMITS, wanted).one()
            # What was compacted keeps the numbers of its blocks; a move between the tiers makes it another text.
            parts = connection.execute(_PARTS, {**wanted, "since_ns": from_ns - HOUR_NS}).one()
            days = connection.execute(_DAYS, wanted).one()
        return ":".join(str(number or 0) for number in (*blocks, *parts, *days))


HOUR_NS = 3_600 * SECOND_NS
_COMMITS = select(func.count(), func.max(t.blocks.c.commit_no)).where(
    t.blocks.c.gateway_id == bindparam("of"),
    t.blocks.c.t_max_ns >= bindparam("from_ns"),
    t.blocks.c.t_min_ns < bindparam("to_ns"),
)
_PARTS = select(func.count(), func.sum(hour_parts.c.samples), func.max(hour_parts.c.block_max)).where(
    hour_parts.c.gateway_id == bindparam("of"),
    hour_parts.c.hour_ns > bindparam("since_ns"),
    hour_parts.c.hour_ns < bindparam("to_ns"),
)
_DAYS = select(func.count(), func.sum(archives.c.samples), func.max(archives.c.commit_max)).where(
    archives.c.gateway_id == bindparam("of"),
    archives.c.state == int(FileState.KEPT),
    archives.c.to_ns >= bindparam("from_ns"),
    archives.c.from_ns < bindparam("to_ns"),
)
