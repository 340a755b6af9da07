"""Reads everything a database holds and says what is wrong with it: what `twincloud db verify` shows."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from twincloud.registry.blobs import Blobs
from twincloud.storage import schema as t
from twincloud.storage.artifacts import SharedBlobs
from twincloud.storage.command_rows import broken_links
from twincloud.storage.packing import unpack_catalogue
from twincloud.storage.part import Decode, Recent
from twincloud.storage.scrub_alarms import scrub_alarms
from twincloud.storage.scrub_hours import DAMAGE, scrub_hours
from twincloud.storage.span import span_ns_of, span_of
from twinmodel.errors import TwinError
from twinmodel.signal import Catalogue

CATALOGUES_MAX = 64


def scrub(connection: Connection, blobs: Blobs | SharedBlobs, decode: Decode) -> Iterator[str]:
    """Decodes blocks and compacted hours, reads artifacts, follows chains of commands, compares alarms; a line a fault.

    Args:
        connection: a read transaction: all is of one snapshot.
        blobs: artifacts beside the database, or in it.
        decode: block codec.
    """
    yield from _blocks(connection, decode)
    yield from _marks(connection)
    yield from scrub_hours(connection)
    yield from _artifacts(connection, blobs)
    yield from broken_links(connection)
    yield from scrub_alarms(connection)


def _blocks(connection: Connection, decode: Decode) -> Iterator[str]:
    catalogues: Recent[int, Catalogue] = Recent(CATALOGUES_MAX)
    for row in connection.execute(_BLOCKS):
        named = f"block {row.id}"
        try:
            catalogue = catalogues.get(row.schema_id)
            if catalogue is None:
                content = connection.execute(_SCHEMA.where(t.schemas.c.id == row.schema_id)).scalar_one()
                catalogue = catalogues.put(row.schema_id, unpack_catalogue(content))
            batches = decode(row.payload, catalogue)
            found = span_of(span_ns_of(batches))
        except DAMAGE as error:
            yield f"{named}: it cannot be read: {error}"
            continue
        if (found["t_min_ns"], found["t_max_ns"]) != (row.t_min_ns, row.t_max_ns):
            yield f"{named}: its samples lie at other times than its row says"
        if sum(len(batch) for batch in batches) > row.last_seq - row.first_seq + 1:
            yield f"{named}: it has more samples than numbers"


def _marks(connection: Connection) -> Iterator[str]:
    """A block beyond its mark would be committed a second time."""
    for row in connection.execute(_BEYOND):
        yield f"block {row.id}: the mark of its stream says {row.next_seq}, its samples end with {row.last_seq}"


def _artifacts(connection: Connection, blobs: Blobs | SharedBlobs) -> Iterator[str]:
    for row in connection.execute(_MODELS):
        try:
            blobs.get(row.digest)
        except TwinError as error:
            yield f"model {row.name}@{row.version} of tenant {row.tenant}: {error.message}"


_BLOCKS = (
    select(t.blocks.c.id, t.blocks.c.schema_id, t.blocks.c.first_seq, t.blocks.c.last_seq, t.blocks.c.t_min_ns,
           t.blocks.c.t_max_ns, t.blocks.c.payload)
    .order_by(t.blocks.c.id)
    .execution_options(yield_per=256)
)  # fmt: skip
_SCHEMA = select(t.schemas.c.content)
_BEYOND = (
    select(t.blocks.c.id, t.blocks.c.last_seq, func.coalesce(t.marks.c.next_seq, 0).label("next_seq"))
    .outerjoin(t.marks, (t.marks.c.boot_id == t.blocks.c.boot_id) & (t.marks.c.stream == t.blocks.c.stream))
    .where(t.blocks.c.last_seq >= func.coalesce(t.marks.c.next_seq, 0))
    .limit(100)
)
_MODELS = select(t.models.c.tenant, t.models.c.name, t.models.c.version, t.models.c.digest).order_by(
    t.models.c.tenant, t.models.c.name, t.models.c.version
)
