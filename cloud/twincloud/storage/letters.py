"""Dead letters: blocks that could not be read when they came; their bytes are kept until somebody can."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from twincloud.storage import schema as t
from twincloud.storage import schema_hours as h
from twincloud.storage.alarm_fold import AlarmFold
from twincloud.storage.commit_times import commit_time
from twincloud.storage.contract import DeadLetter, GatewayKey, Page
from twincloud.storage.newest import NewestStore
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import NUMBERS, News, limited, record, take_numbers
from twincloud.storage.span import span_ns_of, span_of
from twinmodel.errors import ConflictError, MissingError
from twinmodel.signal import Batch, Stream
from twinsync import block


class LetterStore(NewestStore):
    """Keeps dead letters; see `Twins`."""

    def dead_letters(self, tenant: str, *, limit: int = 100, token: str = "") -> Page[DeadLetter]:
        """See `Twins.dead_letters`."""
        c = t.dead_letters.c
        g = t.gateways.c
        statement = (
            select(
                c.id,
                g.site,
                g.gateway,
                t.boots.c.boot,
                c.stream,
                c.first_seq,
                c.last_seq,
                c.reason,
                c.received_ns,
                c.size,
            )
            .join(t.gateways, g.id == c.gateway_id)
            .join(t.boots, t.boots.c.id == c.boot_id)
            .where(g.tenant == tenant)
        )
        if token:
            statement = statement.where(c.id < place_of(token, int)[0])
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(c.id.desc()), limit)).all()
        letters = [
            DeadLetter(r.id, GatewayKey(tenant, r.site, r.gateway), r.boot.hex(), Stream(r.stream), r.first_seq,
                       r.last_seq, r.reason, r.received_ns, r.size)
            for r in rows
        ]  # fmt: skip
        return page_of(letters, limit, lambda letter: (letter.id,))

    def dead_letter_bytes(self, tenant: str, letter: int) -> bytes:
        """The bytes of a dead letter; raises NOT_FOUND."""
        with self._database.read(tenant) as connection:
            return bytes(_row(connection, tenant, letter)["payload"])

    def requeue_dead_letter(self, tenant: str, letter: int, now_ns: int) -> int:
        """Reads a dead letter again and takes it into history as if it had just come; returns its samples.

        Raises:
            MissingError: NOT_FOUND.
            ConflictError: SCHEMA_UNKNOWN when its catalogue was never sent, PROTOCOL_VIOLATION when it is a part of
                numbers that were taken already.
            InputError: BLOCK_CORRUPT, BLOCK_UNSUPPORTED and the like: it still cannot be read; it is kept.
        """
        with self._database.write(tenant) as connection:
            row = _row(connection, tenant, letter)
            if row["reason"] == "PROTOCOL_VIOLATION":
                message = f"dead letter {letter} names numbers that were committed already"
                raise ConflictError("PROTOCOL_VIOLATION", message, hint="look at its bytes; it cannot be taken")
            schema_id = self._schema_id(connection, row["gateway_id"], row["schema_digest"])
            if schema_id is None:
                digest = row["schema_digest"].hex()
                raise ConflictError("SCHEMA_UNKNOWN", f"gateway {row['gateway']!r} has not sent the catalogue {digest}")
            block.verify(row["payload"], row["crc32c"])
            batches = [b for b in self._decode(row["payload"], self._catalogue_by_id(connection, schema_id)) if len(b)]
            samples = sum(map(len, batches))
            if not 0 < samples <= row["last_seq"] - row["first_seq"] + 1:
                raise ConflictError("BLOCK_CORRUPT", f"dead letter {letter} holds {samples} samples for its numbers")
            number = take_numbers(connection, NUMBERS, 2)
            now_ns = commit_time(connection, now_ns)
            connection.execute(insert(h.commits), {"number": number, "time_ns": now_ns})
            kept = ("tenant", "gateway_id", "boot_id", "stream", "first_seq", "last_seq", "received_ns", "payload")
            placed = {"id": number + 1, "commit_no": number, "schema_id": schema_id, "committed_ns": now_ns}
            content = {name: row[name] for name in kept} | placed | span_of(span_ns_of(batches))
            connection.execute(insert(t.blocks), content)
            counted = {"key": row["gateway_id"], "samples": samples, "last": number + 1}
            connection.execute(_COUNT, counted)
            connection.execute(_REMOVE, {"letter": letter})
            body: dict[str, object] = {"requeued": True, "first_seq": row["first_seq"], "last_seq": row["last_seq"]}
            news = [News(tenant, row["site"], "deadletter", row["gateway"], now_ns, body)]
            record(connection, news + self._alarms_of(connection, row, schema_id, batches, now_ns))
        return samples

    def _alarms_of(
        self, connection: Connection, row: RowMapping, schema_id: int, batches: Sequence[Batch], now_ns: int
    ) -> list[News]:
        """What its records of alarms change."""
        if row["stream"] != Stream.ALARM:
            return []
        key = GatewayKey(row["tenant"], row["site"], row["gateway"])
        catalogue = self._catalogue_by_id(connection, schema_id)
        bound = self._bound(connection, row["gateway_id"], schema_id, catalogue, writing=True)
        fold = AlarmFold(connection, self._database)
        fold.take(key, row["gateway_id"], (row["boot_id"], row["first_seq"]), batches, bound, row["received_ns"])
        return fold.write(now_ns)


def _row(connection: Connection, tenant: str, letter: int) -> RowMapping:
    found = connection.execute(_LETTER, {"tenant": tenant, "letter": letter}).mappings().first()
    if found is None:
        raise MissingError("NOT_FOUND", f"no dead letter {letter}", hint="list them with `twinctl deadletter list`")
    return found


_LETTER = (
    select(t.dead_letters, t.gateways.c.site, t.gateways.c.gateway)
    .join(t.gateways, t.gateways.c.id == t.dead_letters.c.gateway_id)
    .where(t.gateways.c.tenant == bindparam("tenant"), t.dead_letters.c.id == bindparam("letter"))
)
_REMOVE = delete(t.dead_letters).where(t.dead_letters.c.id == bindparam("letter"))
_COUNT = (
    update(t.gateways)
    .where(t.gateways.c.id == bindparam("key"))
    .values(
        blocks=t.gateways.c.blocks + 1,
        samples=t.gateways.c.samples + bindparam("samples"),
        last_block=bindparam("last"),
    )
)
