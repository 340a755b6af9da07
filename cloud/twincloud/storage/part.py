"""What the parts of the store share: the database, the clock, what is known by heart, and a few look-ups."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, RowMapping, Select, bindparam, insert, select, update

from twincloud.registry.blobs import Blobs
from twincloud.registry.packages import Verify
from twincloud.storage import schema as t
from twincloud.storage.artifacts import SharedBlobs
from twincloud.storage.audit_window import WINDOWS_BYTES, Window, bytes_of
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.database import Database
from twincloud.storage.held import Recent
from twincloud.storage.packing import pack, unpack_catalogue
from twincloud.storage.tier_archive import ArchiveTier
from twincloud.storage.tier_blocks import BlocksTier
from twincloud.storage.tier_hours import HoursTier
from twincloud.storage.tiers import History
from twincloud.twins.history import SAMPLES_MAX, DecodedBlocks
from twincloud.twins.latest import Latest
from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, MissingError
from twinmodel.signal import Batch, Catalogue

__all__ = [
    "BINDINGS",
    "NUMBERS", "Bound", "Decode", "News", "Part", "Recent", "check_session", "event_row", "gateway_row", "limited",
    "nearest", "record", "take_numbers", "take_numbers_fast",
]  # fmt: skip

Decode = Callable[[bytes, Catalogue], Sequence[Batch]]
"""`twinsync.block.decode`."""

NUMBERS = "row"
"""The counter that numbers commits, items and events alike."""
BINDINGS = "bindings"
"""The counter that grows when it changes which gateway serves a twin."""

CATALOGUES_MAX = 256
BOUNDS_MAX = 4_096
GATEWAYS_MAX = 5_000
IDS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Bound:
    """A catalogue of a gateway as ingest needs it.

    Attributes:
        schema_id: its id in the database.
        depth: readings kept by signal id, 0 where no twin of the gateway has the signal.
        names: signal names by signal id.
        twins: the gateway's twins in it.
        owner: places in `twins` by signal id, -1 for none; shape (signals, most twins that share one).
    """

    schema_id: int
    depth: NDArray[np.uint8]
    names: tuple[str, ...]
    twins: tuple[TwinKey, ...]
    owner: NDArray[np.int32]

    def twins_of(self, signals: NDArray[np.uint32]) -> list[TwinKey]:
        """Twins that have any of these signals."""
        has = np.zeros(len(self.twins) + 1, bool)
        has[self.owner[signals]] = True  # -1, for none, is the last one
        return [self.twins[place] for place in np.flatnonzero(has[:-1]).tolist()]


@dataclass(frozen=True, slots=True)
class News:
    """An event that is not numbered yet."""

    tenant: str
    site: str
    kind: str
    subject: str
    t_ns: int
    body: dict[str, object]


class Part:
    """Base of all parts of the store."""

    _replica = ""
    """This coordinator's name among those that share the database."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        blobs: Blobs | SharedBlobs,
        *,
        decode: Decode,
        verify: Verify,
        decoded_samples: int = SAMPLES_MAX,
    ) -> None:
        self._database = database
        self._clock = clock
        self._blobs = blobs
        self._decode = decode
        self._verify = verify
        self._decoded = DecodedBlocks(decoded_samples)
        self._blocks_tier = BlocksTier(self._catalogue_by_id, decode, self._decoded)
        self._hours_tier = HoursTier()
        self._archive_tier = ArchiveTier()
        self._history = History((self._blocks_tier, self._hours_tier, self._archive_tier))
        self._gateway_ids: Recent[GatewayKey, int] = Recent(IDS_MAX)
        self._catalogues: Recent[int, Catalogue] = Recent(CATALOGUES_MAX)
        self._schema_ids: Recent[tuple[int, bytes], int] = Recent(IDS_MAX)
        self._boots: Recent[tuple[int, bytes], tuple[int, int]] = Recent(IDS_MAX)
        self._bounds_held: Recent[tuple[int, int], Bound] = Recent(BOUNDS_MAX)
        self._latest: Recent[int, Latest] = Recent(GATEWAYS_MAX)
        self._audited: Recent[int, Window] = Recent(WINDOWS_BYTES, bytes_of)

    def _gateway_id(self, connection: Connection, key: GatewayKey) -> int:
        known = self._gateway_ids.get(key)
        if known is not None:
            return known
        return self._gateway_ids.put(key, int(gateway_row(connection, key)["id"]))

    def _record(self, connection: Connection, news: Sequence[News]) -> None:
        """The same as `record`, for the path of every session."""
        if news:
            first = take_numbers_fast(self._database, connection, NUMBERS, len(news))
            rows = [event_row(one, number) for number, one in enumerate(news, first)]
            self._database.write_many(connection, _EVENT, rows)

    def _catalogue_by_id(self, connection: Connection, schema_id: int) -> Catalogue:
        known = self._catalogues.get(schema_id)
        if known is not None:
            return known
        ((content,),) = self._database.read_many(connection, _CATALOGUE, [{"id": schema_id}])
        return self._catalogues.put(schema_id, unpack_catalogue(content))

    def _schema_id(self, connection: Connection, gateway_id: int, digest: bytes) -> int | None:
        """The id of a catalogue that this gateway has sent."""
        known = self._schema_ids.get((gateway_id, digest))
        if known is not None:
            return known
        found = self._database.read_many(connection, _SCHEMA_ID, [{"gateway_id": gateway_id, "digest": digest}])
        return self._schema_ids.put((gateway_id, digest), int(found[0][0])) if found else None


def gateway_row(connection: Connection, key: GatewayKey) -> RowMapping:
    """The row of a gateway; raises MissingError UNKNOWN_GATEWAY."""
    row = connection.execute(
        _GATEWAY, {"tenant": key.tenant, "site": key.site, "gateway": key.gateway}
    ).mappings().first()  # fmt: skip
    if row is None:
        raise MissingError(
            "UNKNOWN_GATEWAY", f"no gateway {key.gateway!r} at site {key.site!r} of tenant {key.tenant!r}"
        )
    return row


def take_numbers(connection: Connection, name: str, count: int) -> int:
    """The first of `count` numbers that were never given before; part of the caller's transaction."""
    found = connection.execute(_COUNTER, {"counter": name}).scalar()
    if found is None:
        connection.execute(insert(t.counters).values(name=name, value=count))
        return 1
    connection.execute(_COUNT, {"counter": name, "to": found + count})
    return int(found) + 1


def take_numbers_fast(database: Database, connection: Connection, name: str, count: int) -> int:
    """The same as `take_numbers`, for the path of every commit."""
    found = database.read_many(connection, _COUNTER, [{"counter": name}])
    if not found:
        return take_numbers(connection, name, count)
    value = int(found[0][0])
    database.write_many(connection, _COUNT, [{"counter": name, "to": value + count}])
    return value + 1


def record(connection: Connection, news: Sequence[News]) -> None:
    """Writes events to the outbox, in the caller's transaction."""
    if not news:
        return
    first = take_numbers(connection, NUMBERS, len(news))
    connection.execute(insert(t.events), [event_row(one, number) for number, one in enumerate(news, first)])


def event_row(news: News, number: int) -> dict[str, object]:
    """The row of an event."""
    return {
        "id": number, "tenant": news.tenant, "site": news.site, "kind": news.kind, "subject": news.subject,
        "t_ns": news.t_ns, "body": pack(news.body),
    }  # fmt: skip


def check_session(gateway: GatewayKey, current: int, session: int) -> None:
    """Raises ConflictError FENCED unless `session` is the gateway's current one."""
    if current != session:
        raise ConflictError(
            "FENCED",
            f"session {session} of gateway {gateway.gateway!r} is not the current one, {current}",
            session=session,
            current=current,
        )


def nearest(name: str, names: Sequence[str]) -> str:
    """`, did you mean ...?` or nothing."""
    found = difflib.get_close_matches(name, names, n=1)
    return f", did you mean {found[0]!r}?" if found else ""


def limited(statement: Select[Any], limit: int) -> Select[Any]:
    """The statement for one row more than a page holds, so that a next page is known."""
    return statement.limit(max(1, limit) + 1)


_GATEWAY = select(t.gateways).where(
    t.gateways.c.tenant == bindparam("tenant"),
    t.gateways.c.site == bindparam("site"),
    t.gateways.c.gateway == bindparam("gateway"),
)
_COUNTER = select(t.counters.c.value).where(t.counters.c.name == bindparam("counter"))
_EVENT = insert(t.events)
_COUNT = update(t.counters).where(t.counters.c.name == bindparam("counter")).values(value=bindparam("to"))
_CATALOGUE = select(t.schemas.c.content).where(t.schemas.c.id == bindparam("id"))
_SCHEMA_ID = (
    select(t.schemas.c.id)
    .join(t.gateway_schemas, t.gateway_schemas.c.schema_id == t.schemas.c.id)
    .where(t.gateway_schemas.c.gateway_id == bindparam("gateway_id"), t.schemas.c.digest == bindparam("digest"))
)
