"""Sessions of gateways: who may speak, who is fenced, and whether two machines speak with one name.

The coordinator keeps the newest boot of a gateway, its head. A hello lists the boots of its disk from an older one
to the present one; each names the one before it. Of two disks that were once one (a cloned card, a restored image),
the second to come does not have the first one's new boot in its chain:

    head in the chain            the same disk, later      -> granted, the newest boot becomes the head
    head not in the chain        another branch, or an     -> IDENTITY_FORK, the gateway is marked `forked`
                                 older image of this disk
    no head (new, re-joined)     nothing to compare        -> granted

While a gateway is forked, its directives rest. The branch that holds the head may go on sending, so that a clone
switched on by mistake does not stop a plant's record; the other one is refused. Joining again with a new invitation
ends the fork and forgets the head. Two machines that run on from one live snapshot share even the boot id: they
fence one another by turns and only a key in hardware tells them apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from twincloud.storage import schema as t
from twincloud.storage.catalogues import CatalogueStore
from twincloud.storage.contract import Beat, GatewayKey, Hello, Opened, Running
from twincloud.storage.database import Row
from twincloud.storage.packing import pack_commandables
from twincloud.storage.part import News, check_session, gateway_row, record
from twinmodel.errors import ConflictError, DeniedError, InputError, MissingError, StorageError, TwinError
from twinmodel.signal import Stream
from twinsync.item import Boot, Mark

INVITED, ACTIVE, FORKED, SUSPENDED = "invited", "active", "forked", "suspended"


class SessionStore(CatalogueStore):
    """Opens, closes and keeps sessions; see `Ingest`."""

    def open_session(self, gateway: GatewayKey, hello: Hello, now_ns: int) -> Opened:
        """See `Ingest.open_session`."""
        answer = self.open_sessions([(gateway, hello)], now_ns)[0]
        if isinstance(answer, TwinError):
            raise answer
        return answer

    def open_sessions(self, hellos: Sequence[tuple[GatewayKey, Hello]], now_ns: int) -> list[Opened | TwinError]:
        """See `Ingest.open_sessions`."""
        with self._database.write() as connection:
            return [self._greet(connection, gateway, hello, now_ns) for gateway, hello in hellos]

    def _greet(self, connection: Connection, gateway: GatewayKey, hello: Hello, now_ns: int) -> Opened | TwinError:
        """What becomes of one hello; a refusal may have been noted, a failure half way leaves nothing behind."""
        try:
            with connection.begin_nested():
                check_chain(hello.boots)
                row = gateway_row(connection, gateway)
                refusal = self._refusal(connection, gateway, row, hello, now_ns)
                return refusal or self._grant(connection, gateway, row, hello, now_ns)
        except StorageError:
            raise
        except TwinError as refusal:
            return refusal

    def close_session(self, gateway: GatewayKey, session: int, now_ns: int) -> None:
        """See `Ingest.close_session`."""
        with self._database.write() as connection:
            gateway_id = self._gateway_id(connection, gateway)
            ((current, connected),) = self._database.read_many(connection, _CONNECTION, [{"key": gateway_id}])
            if current == session and connected:
                row = {"key": gateway_id, "connected": False, "last_seen_ns": now_ns}
                self._database.write_many(connection, _UPDATE, [row])
                self._record(connection, [_news(gateway, now_ns, connected=False)])

    def end_sessions(self, now_ns: int) -> None:
        """See `Ingest.end_sessions`."""
        with self._database.write() as connection:
            self._end_of(connection, ("", self._replica), now_ns)

    def end_absent(self, now_ns: int, missed: Collection[str] = ()) -> tuple[str, ...]:
        """See `Sharing.end_absent`."""
        with self._database.read() as connection:
            others = set(connection.execute(_HOLDERS).scalars()) - {"", self._replica}
        if not others:
            return ()
        with self._database.write() as connection:
            gone = tuple(name for name in sorted(others) if not self._database.is_present(connection, name))
            self._end_of(connection, [name for name in gone if name in missed], now_ns)
        return gone

    def _end_of(self, connection: Connection, replicas: Sequence[str], now_ns: int) -> None:
        rows = self._database.read_many(connection, _CONNECTED, [{"name": name} for name in dict.fromkeys(replicas)])
        if rows:
            away: list[Row] = [{"key": gateway_id, "connected": False} for gateway_id, *_ in rows]
            self._database.write_many(connection, _UPDATE, away)
            self._record(connection, [_news(GatewayKey(*key), now_ns, connected=False) for _, *key in rows])

    def heartbeats(self, beats: Sequence[Beat]) -> list[TwinError | None]:
        """See `Ingest.heartbeats`; whether a gateway is connected is told by its session alone."""
        if not beats:
            return []
        with self._database.write() as connection:
            return [self._note(connection, beat) for beat in beats]

    def _note(self, connection: Connection, beat: Beat) -> TwinError | None:
        try:
            gateway_id = self._gateway_id(connection, beat.gateway)
            ((session, seen_ns),) = self._database.read_many(connection, _SESSION, [{"key": gateway_id}])
            check_session(beat.gateway, session, beat.session)
        except (ConflictError, MissingError) as refusal:
            return refusal
        row = {
            "key": gateway_id, "new_bytes": beat.backlog_bytes, "new_samples": beat.backlog_samples,
            "new_oldest": beat.oldest_ns, "seen": max(seen_ns, beat.at_ns),
        }  # fmt: skip
        self._database.write_many(connection, _BEAT, [row])
        if beat.offset_ns is not None:
            for statement in (_OFFSET, _BOOT_OFFSET):
                self._database.write_many(connection, statement, [{"key": gateway_id, "new": beat.offset_ns}])
        if beat.commandables is not None:
            known = pack_commandables(beat.commandables)
            self._database.write_many(connection, _UPDATE, [{"key": gateway_id, "commandables": known}])
        self._put_running(connection, beat.gateway, gateway_id, beat.running, beat.at_ns)
        return None

    def suspend_gateway(self, gateway: GatewayKey, *, suspended: bool, now_ns: int) -> None:
        """Shuts a gateway out, and fences its session, or lets it in again."""
        with self._database.write() as connection:
            row = gateway_row(connection, gateway)
            state = SUSPENDED if suspended else ACTIVE
            connection.execute(
                _UPDATE, {"key": row["id"], "state": state, "session": row["session"] + 1, "connected": False}
            )
            record(connection, [_news(gateway, now_ns, state=state)])

    def _refusal(
        self, connection: Connection, gateway: GatewayKey, row: RowMapping, hello: Hello, now_ns: int
    ) -> ConflictError | DeniedError | None:
        if row["state"] == SUSPENDED:
            return DeniedError("SUSPENDED", f"gateway {gateway.gateway!r} is suspended")
        head = row["head_boot"]
        if head is None or any(boot.id == head for boot in hello.boots):
            return None
        if row["state"] != FORKED:
            connection.execute(_UPDATE, {"key": row["id"], "state": FORKED})
            record(connection, [_news(gateway, now_ns, state=FORKED, boot=hello.boots[-1].id.hex())])
        return ConflictError(
            "IDENTITY_FORK",
            f"gateway {gateway.gateway!r} was last seen with boot {head.hex()}, which this disk never had",
            head=head.hex(),
            found=hello.boots[-1].id.hex(),
        )

    def _grant(self, connection: Connection, gateway: GatewayKey, row: RowMapping, hello: Hello, now_ns: int) -> Opened:
        newest, session, state = hello.boots[-1], row["session"] + 1, row["state"]
        granted: Row = {
            "key": row["id"],
            "state": ACTIVE if state == INVITED else state,
            "connected": True,
            "session": session,
            "replica": self._replica,
            "head_boot": newest.id,
            "boot_counter": newest.counter,
            **({} if row["head_boot"] == newest.id else {"offset_ns": None}),
            "agent_version": hello.agent_version,
            "clock": int(hello.clock),
            "last_seen_ns": now_ns,
            "certificate_serial": hello.certificate_serial or row["certificate_serial"],
            "certificate_until_ns": hello.certificate_until_ns or row["certificate_until_ns"],
            "hello_schemas": b"".join(hello.schemas),
            "commandables": None,
        }
        self._database.write_many(connection, _UPDATE, [granted])
        ids = self._put_boots(connection, gateway.tenant, row["id"], hello.boots)
        self._put_running(connection, gateway, row["id"], hello.running, now_ns)
        missing = tuple(d for d in hello.schemas if self._schema_id(connection, row["id"], d) is None)
        if hello.schemas and hello.schemas[-1] not in missing:
            self._apply_catalogue(connection, gateway, row["id"], hello.schemas[-1], now_ns)
        self._record(connection, [_news(gateway, now_ns, connected=True, session=session)])
        found = self._database.read_many(connection, _MARKS, [{"key": boot_id} for boot_id in ids])
        marks = tuple(Mark(ids[boot_id], Stream(stream), next_seq) for boot_id, stream, next_seq in found)
        return Opened(session, marks, missing)

    def _put_boots(
        self, connection: Connection, tenant: str, gateway_id: int, boots: Sequence[Boot]
    ) -> dict[int, bytes]:
        wanted = [{"gateway_id": gateway_id, "name": boot.id} for boot in boots]
        found = self._database.read_many(connection, _BOOTS, wanted)
        known = {boot for _, boot in found}
        rows: list[Row] = [
            {"tenant": tenant, "gateway_id": gateway_id, "boot": b.id, "previous": b.previous, "counter": b.counter,
             "started_ns": b.started_ns, "clock": int(b.clock)}
            for b in boots
            if b.id not in known
        ]  # fmt: skip
        if rows:
            self._database.write_many(connection, _NEW_BOOT, rows)
            found = self._database.read_many(connection, _BOOTS, wanted)
        return dict(found)

    def _put_running(
        self, connection: Connection, gateway: GatewayKey, gateway_id: int, running: Sequence[Running], now_ns: int
    ) -> None:
        if not running:
            return
        found = self._database.read_many(connection, _RUNNING, [{"gateway_id": gateway_id}])
        known = {twin: tuple(row) for twin, *row in found}
        changed = [r for r in running if known.get(r.twin) != (r.digest.hex(), r.name, r.tier, r.isolation)]
        if not changed:
            return
        rows = [
            {"tenant": gateway.tenant, "gateway_id": gateway_id, "twin": r.twin, "digest": r.digest.hex(),
             "name": r.name, "tier": r.tier, "isolation": r.isolation, "at_ns": now_ns}
            for r in changed
        ]  # fmt: skip
        self._database.upsert(connection, t.running, rows)
        news = [
            News(
                gateway.tenant,
                gateway.site,
                "twin",
                r.twin,
                now_ns,
                {"running": r.name, "tier": r.tier, "isolation": r.isolation},
            )
            for r in changed
        ]
        self._record(connection, news)


def check_chain(boots: Sequence[Boot]) -> None:
    """Raises InputError PROTOCOL_VIOLATION unless each boot names the one before it, with a larger counter."""
    if not boots:
        raise InputError("PROTOCOL_VIOLATION", "hello.boots: is empty", field="hello.boots")
    for older, newer in itertools.pairwise(boots):
        if newer.previous != older.id or newer.counter <= older.counter:
            raise InputError(
                "PROTOCOL_VIOLATION",
                f"hello.boots: boot {newer.id.hex()} does not follow {older.id.hex()}",
                field="hello.boots",
            )


def _news(gateway: GatewayKey, now_ns: int, **body: object) -> News:
    return News(gateway.tenant, gateway.site, "gateway", gateway.gateway, now_ns, body)


_UPDATE = update(t.gateways).where(t.gateways.c.id == bindparam("key"))
_MARKS = select(t.marks.c.boot_id, t.marks.c.stream, t.marks.c.next_seq).where(t.marks.c.boot_id == bindparam("key"))
_NEW_BOOT = insert(t.boots)
_BOOTS = select(t.boots.c.id, t.boots.c.boot).where(
    t.boots.c.gateway_id == bindparam("gateway_id"), t.boots.c.boot == bindparam("name")
)
_RUNNING = select(
    t.running.c.twin, t.running.c.digest, t.running.c.name, t.running.c.tier, t.running.c.isolation
).where(t.running.c.gateway_id == bindparam("gateway_id"))
_CONNECTED = select(t.gateways.c.id, t.gateways.c.tenant, t.gateways.c.site, t.gateways.c.gateway).where(
    t.gateways.c.connected.is_(True), t.gateways.c.replica == bindparam("name")
)
_HOLDERS = select(t.gateways.c.replica).where(t.gateways.c.connected.is_(True)).distinct()
_CONNECTION = select(t.gateways.c.session, t.gateways.c.connected).where(t.gateways.c.id == bindparam("key"))
_SESSION = select(t.gateways.c.session, t.gateways.c.last_seen_ns).where(t.gateways.c.id == bindparam("key"))
_OFFSET = update(t.gateways).where(t.gateways.c.id == bindparam("key")).values(offset_ns=bindparam("new"))
_BOOT_OFFSET = (
    update(t.boots)
    .where(
        t.boots.c.gateway_id == bindparam("key"),
        t.boots.c.boot == select(t.gateways.c.head_boot).where(t.gateways.c.id == bindparam("key")).scalar_subquery(),
    )
    .values(offset_ns=bindparam("new"))
)
_BEAT = _UPDATE.values(
    backlog_bytes=bindparam("new_bytes"),
    backlog_samples=bindparam("new_samples"),
    oldest_ns=bindparam("new_oldest"),
    last_seen_ns=bindparam("seen"),
)
