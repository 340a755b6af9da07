"""Every sample in the database in the order of commits: what audits and tests count; of archived ones the number.

    parts of hours ─┬─▶ samples by number of their block ─┬─▶ pages of whole blocks
    blocks ─────────┘   (after, bound]                    ┘

A page reads the hours that hold the next blocks, so it costs as much as they hold; nobody but an audit asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, func, select

from twincloud.storage import schema as t
from twincloud.storage import schema_hours as h
from twincloud.storage.contract import GatewayKey, Page
from twincloud.storage.hours_codec import Origins
from twincloud.storage.part import Part
from twincloud.storage.records_archives import FileState
from twincloud.storage.schema_archives import archives
from twincloud.storage.tier_hours import run_of
from twincloud.storage.tiers import Run
from twinmodel.signal import Batch

Found = list[tuple[str, Batch]]
"""Samples of one block, a run of each signal."""

_BLOCKS_AT_ONCE = 64
_NO_BOUND = 2**63 - 1


class AuditStore(Part):
    """See `Twins.samples`."""

    def samples(self, gateway: GatewayKey, *, after: int = 0, limit: int = 10_000) -> Page[tuple[str, Batch]]:
        """See `Twins.samples`.

        Each item is a run of one signal, named; ids in the batch are those of its block's catalogue. A page holds
        whole blocks: `after` is the number of the last block seen, and the last block may exceed `limit` samples.
        """
        found: Found = []
        taken = 0
        with self._database.read(gateway.tenant) as connection:
            span = {"tenant": gateway.tenant, "gateway_id": self._gateway_id(connection, gateway)}
            while True:
                parts, bound = _parts(connection, span, after)
                rows = connection.execute(_BLOCKS, {**span, "after": after, "bound": bound}).all()
                if len(rows) == _BLOCKS_AT_ONCE:
                    bound = min(bound, rows[-1].id)
                blocks = self._of_parts(connection, span, parts, after, bound)
                for row in rows:
                    if row.id <= bound:
                        catalogue = self._catalogue_by_id(connection, row.schema_id)
                        batches = self._decode(row.payload, catalogue)
                        blocks[row.id] = [
                            (catalogue.signals[int(run.signal[0])].name, run) for batch in batches for run in cut(batch)
                        ]
                for number in sorted(blocks):
                    if taken >= limit:
                        return Page(tuple(found), str(after))
                    found += blocks[number]
                    taken += sum(len(batch) for _, batch in blocks[number])
                    after = number
                if bound == _NO_BOUND:
                    return Page(tuple(found))
                if taken >= limit:
                    return Page(tuple(found), str(after))
                after = bound

    def archived_samples(self, gateway: GatewayKey) -> int:
        """See `Archives.archived_samples`."""
        with self._database.read(gateway.tenant) as connection:
            of = {"tenant": gateway.tenant, "gateway_id": self._gateway_id(connection, gateway)}
            return int(connection.execute(_ARCHIVED, of).scalar_one() or 0)

    def _of_parts(
        self, connection: Connection, span: dict[str, Any], parts: Sequence[Any], after: int, bound: int
    ) -> dict[int, Found]:
        """The samples of the blocks in (after, bound] that these parts hold, by the number of their block."""
        if not parts:
            return {}
        keys = [(span["gateway_id"], part.hour_ns, part.part) for part in parts]
        origins = self._hours_tier.origins(connection, span["tenant"], keys)
        asked = {**span, "hours": [p.hour_ns for p in parts], "parts": [p.part for p in parts]}
        pieces: dict[tuple[int, int, str], list[Run]] = {}
        for row in connection.execute(_ROWS, asked).all():
            source: Origins | None = origins.get((span["gateway_id"], row.hour_ns, row.part))
            if source is None:
                continue
            run = run_of(row, row.payload, source)
            number = source.block[run.origin]
            for block in np.unique(number[(number > after) & (number <= bound)]).tolist():
                one = run.take(np.flatnonzero(number == block))
                schema = int(source.schema_id[one.origin[0]])
                pieces.setdefault((block, schema, run.signal), []).append(one)
        blocks: dict[int, list[tuple[int, str, Batch]]] = {}
        for (block, schema, name), runs in pieces.items():
            seq = np.concatenate([run.seq for run in runs])
            order = np.argsort(seq)
            signal = self._catalogue_by_id(connection, schema).by_name[name].id
            batch = Batch(
                runs[0].kind, np.full(len(seq), signal, np.uint32),
                np.concatenate([run.value for run in runs])[order],
                np.concatenate([run.quality for run in runs])[order],
                np.concatenate([run.t_ns for run in runs])[order],
            )  # fmt: skip
            blocks.setdefault(block, []).append((int(seq.min()), name, batch))
        return {
            block: [(name, batch) for _, name, batch in sorted(some, key=lambda one: one[0])]
            for block, some in blocks.items()
        }


def cut(batch: Batch) -> list[Batch]:
    """The batch, cut where its signal changes."""
    cuts = [0, *((batch.signal[1:] != batch.signal[:-1]).nonzero()[0] + 1).tolist(), len(batch)]
    return [
        Batch(batch.kind, batch.signal[a:b], batch.value[a:b], batch.quality[a:b], batch.t_ns[a:b])
        for a, b in itertools.pairwise(cuts)
        if b > a
    ]


def _parts(connection: Connection, span: dict[str, Any], after: int) -> tuple[list[Any], int]:
    """The parts that hold the next blocks, and up to which number they hold all that are in hours."""
    rows = connection.execute(_PARTS, {**span, "after": after}).all()
    if not rows:
        return [], _NO_BOUND
    start = max(after + 1, rows[0].block_min)
    first = [row for row in rows if row.block_min <= start]
    rest = rows[len(first) :]
    return first, (rest[0].block_min - 1 if rest else _NO_BOUND)


_ARCHIVED = select(func.sum(archives.c.samples)).where(
    archives.c.tenant == bindparam("tenant"),
    archives.c.gateway_id == bindparam("gateway_id"),
    archives.c.state == int(FileState.KEPT),
)
_PARTS = (
    select(h.hour_parts.c.hour_ns, h.hour_parts.c.part, h.hour_parts.c.block_min)
    .where(
        h.hour_parts.c.tenant == bindparam("tenant"),
        h.hour_parts.c.gateway_id == bindparam("gateway_id"),
        h.hour_parts.c.block_max > bindparam("after"),
    )
    .order_by(h.hour_parts.c.block_min)
)
_ROWS = (
    select(h.hours.c.hour_ns, h.hours.c.part, h.hours.c.payload, h.points)
    .join(h.points, h.points.c.id == h.hours.c.point_id)
    .where(
        h.hours.c.tenant == bindparam("tenant"),
        h.hours.c.gateway_id == bindparam("gateway_id"),
        h.hours.c.hour_ns.in_(bindparam("hours", expanding=True)),
        h.hours.c.part.in_(bindparam("parts", expanding=True)),
    )
)
_BLOCKS = (
    select(t.blocks.c.id, t.blocks.c.schema_id, t.blocks.c.payload)
    .where(
        t.blocks.c.gateway_id == bindparam("gateway_id"),
        t.blocks.c.id > bindparam("after"),
        t.blocks.c.id <= bindparam("bound"),
    )
    .order_by(t.blocks.c.id)
    .limit(_BLOCKS_AT_ONCE)
)
