"""Every sample in the database in the order of commits: what audits and tests count; of archived ones the number.

    parts of hours ─▶ window, sorted by block ─┬─▶ sizes of the next blocks ─▶ as many as fit ─▶ page of whole blocks
    heads of blocks ───────────────────────────┘

A page decodes the blocks it shows and no other. What is in hours is sorted a window at a time, which is held until an
audit is through it: its first page costs as much as the window holds, all others as much as they show.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, func, select

from twincloud.storage import schema as t
from twincloud.storage import schema_hours as h
from twincloud.storage.audit_window import (
    EMPTY,
    I64,
    NO_BOUND,
    Gathering,
    HeldPart,
    Piece,
    Window,
    narrowed,
    next_parts,
)
from twincloud.storage.contract import GatewayKey, Page
from twincloud.storage.part import Part
from twincloud.storage.records_archives import FileState
from twincloud.storage.schema_archives import archives
from twincloud.storage.tier_hours import run_of
from twinmodel.signal import Batch

_HEADS_AT_ONCE = 256
_STRETCHES_MAX = 64
"""A page ends after so many looks for the next blocks, however few samples they had."""


class AuditStore(Part):
    """See `Twins.samples`."""

    def samples(self, gateway: GatewayKey, *, after: int = 0, limit: int = 10_000) -> Page[tuple[str, Batch]]:
        """See `Twins.samples`.

        Each item is a run of one signal, named; ids in the batch are those of its block's catalogue. A page holds
        whole blocks: `after` is the number of the last block seen, and the last block may exceed `limit` samples.
        """
        found: list[tuple[str, Batch]] = []
        left = max(1, limit)
        with self._database.read(gateway.tenant) as connection:
            gateway_id = self._gateway_id(connection, gateway)
            span = {"tenant": gateway.tenant, "gateway_id": gateway_id}
            parts = [HeldPart(*row) for row in connection.execute(_PARTS, {**span, "after": after})]
            for _ in range(_STRETCHES_MAX):
                window = self._stretch(connection, span, parts, after)
                asked = {**span, "after": after, "bound": window.upto}
                heads = connection.execute(_HEADS, asked).all()
                bound = min(window.upto, heads[-1].id) if len(heads) == _HEADS_AT_ONCE else window.upto
                numbers, sizes = _sizes(window, heads, after, bound)
                ends = sizes.cumsum()
                last = int(ends.searchsorted(left))
                upto = int(numbers[last]) if last < len(numbers) else bound
                pieces = [*window.pieces(after, upto), *self._of_blocks(connection, span, heads, upto)]
                pieces.sort(key=lambda piece: piece[:2])
                found += [(piece.name, piece.batch) for piece in pieces]
                if bound == NO_BOUND and last >= len(numbers) - 1:
                    self._audited.put(gateway_id, EMPTY)  # the audit is at its end
                    return Page(tuple(found))
                after = upto
                if last < len(numbers):
                    break
                left -= int(ends[-1]) if len(ends) else 0
        return Page(tuple(found), str(after))

    def archived_samples(self, gateway: GatewayKey) -> int:
        """See `Archives.archived_samples`."""
        with self._database.read(gateway.tenant) as connection:
            of = {"tenant": gateway.tenant, "gateway_id": self._gateway_id(connection, gateway)}
            return int(connection.execute(_ARCHIVED, of).scalar_one() or 0)

    def _stretch(self, connection: Connection, span: dict[str, Any], parts: Sequence[HeldPart], after: int) -> Window:
        """What hours hold of the blocks behind `after`: the window that is held, or the next one."""
        ahead = [part for part in parts if part.block_max > after]
        if not ahead:
            return EMPTY
        held = self._audited.get(span["gateway_id"])
        if held is not None and held.serves(after, ahead):
            return held
        chosen, upto = next_parts(after, ahead)
        keys = {(span["gateway_id"], part.hour_ns, part.part) for part in chosen}
        origins = self._hours_tier.origins(connection, span["tenant"], keys)
        gathering = Gathering(after, narrowed(after, upto, chosen, [origins[key] for key in keys]))
        asked = {
            **span,
            "hours": sorted({part.hour_ns for part in chosen}),
            "parts": sorted({part.part for part in chosen}),
        }
        for row in connection.execute(_ROWS, asked):
            key = (span["gateway_id"], row.hour_ns, row.part)
            if key in keys:
                gathering.add(run_of(row, row.payload, origins[key]), origins[key])
        catalogues = {schema: self._catalogue_by_id(connection, schema) for schema in gathering.schemas()}
        return self._audited.put(span["gateway_id"], gathering.window(chosen, catalogues))

    def _of_blocks(self, connection: Connection, span: dict[str, Any], heads: Sequence[Any], upto: int) -> list[Piece]:
        """The samples of those of the blocks that a page shows."""
        shown = [head.id for head in heads if head.id <= upto]
        if not shown:
            return []
        found = []
        for row in connection.execute(_BLOCKS, {**span, "ids": shown}):
            catalogue = self._catalogue_by_id(connection, row.schema_id)
            seq = row.first_seq
            for batch in self._decode(row.payload, catalogue):
                for run in cut(batch):
                    found.append(Piece(row.id, seq, catalogue.signals[int(run.signal[0])].name, run))
                    seq += len(run)
        return found


def cut(batch: Batch) -> list[Batch]:
    """The batch, cut where its signal changes."""
    cuts = [0, *((batch.signal[1:] != batch.signal[:-1]).nonzero()[0] + 1).tolist(), len(batch)]
    return [
        Batch(batch.kind, batch.signal[a:b], batch.value[a:b], batch.quality[a:b], batch.t_ns[a:b])
        for a, b in itertools.pairwise(cuts)
        if b > a
    ]


def _sizes(window: Window, heads: Sequence[Any], after: int, upto: int) -> tuple[I64, I64]:
    """Numbers, ascending, and samples of the blocks in (after, upto]; each is in hours or a block, not in both."""
    numbers, sizes = window.sizes_of(after, upto)
    if heads:
        numbers = np.concatenate([numbers, [head.id for head in heads]])
        sizes = np.concatenate([sizes, [head.last_seq - head.first_seq + 1 for head in heads]])
        order = numbers.argsort()
        numbers, sizes = numbers[order], sizes[order]
    return numbers, sizes


_ARCHIVED = select(func.sum(archives.c.samples)).where(
    archives.c.tenant == bindparam("tenant"),
    archives.c.gateway_id == bindparam("gateway_id"),
    archives.c.state == int(FileState.KEPT),
)
_PARTS = (
    select(*(h.hour_parts.c[name] for name in HeldPart._fields))
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
_HEADS = (
    select(t.blocks.c.id, t.blocks.c.first_seq, t.blocks.c.last_seq)
    .where(
        t.blocks.c.gateway_id == bindparam("gateway_id"),
        t.blocks.c.id > bindparam("after"),
        t.blocks.c.id <= bindparam("bound"),
    )
    .order_by(t.blocks.c.id)
    .limit(_HEADS_AT_ONCE)
)
_BLOCKS = select(t.blocks.c.id, t.blocks.c.schema_id, t.blocks.c.first_seq, t.blocks.c.payload).where(
    t.blocks.c.gateway_id == bindparam("gateway_id"), t.blocks.c.id.in_(bindparam("ids", expanding=True))
)
