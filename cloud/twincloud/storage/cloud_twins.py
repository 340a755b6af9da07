"""Twins that run in the coordinator, in the database: what was asked, how far each is, what came since it looked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, bindparam, delete, func, select

from twincloud.storage import schema as t
from twincloud.storage.commits import CommitStore
from twincloud.storage.contract import Arrival, Commit, GatewayKey, TwinKey
from twincloud.storage.hours_codec import HOUR_NS
from twincloud.storage.packing import pack, unpack
from twincloud.storage.part import NUMBERS, News, record
from twincloud.storage.records_cloud import CloudTwin, Feed, Fresh, Wiring
from twincloud.storage.schema_cloud import cloud_checkpoints as k
from twincloud.storage.schema_cloud import cloud_twins as c
from twincloud.storage.schema_hours import hour_parts
from twincloud.storage.schema_twins import twin_records
from twincloud.storage.tiers import Wanted
from twinmodel.errors import ConflictError, InputError, MissingError, TwinError

CLOUD_TWINS_MAX = 10_000
CHECKPOINTS_MAX = 288
"""Of one twin: two days of one each ten minutes."""
BLOCKS_MAX = 2_000
"""Blocks one look takes in."""

Signals = Mapping[GatewayKey, Sequence[str]]


class CloudTwinStore(CommitStore):
    """Keeps cloud twins; see `Clouds`."""

    def put_cloud_twin(self, twin: CloudTwin, now_ns: int) -> CloudTwin:
        """Keeps what a person asked for; another model or wiring begins anew at its first tick to come."""
        with self._database.write(twin.key.tenant) as connection:
            found = connection.execute(_LOCKED, _key(twin.key)).mappings().first()
            count = connection.execute(_COUNT, {"tenant": twin.key.tenant}).scalar_one()
            if found is None and count >= CLOUD_TWINS_MAX:
                raise InputError("LIMIT_EXCEEDED", f"tenant {twin.key.tenant!r} has {count} cloud twins already")
            through = connection.execute(_THROUGH).scalar() or 0
            kept = replace(twin, version=(found["version"] if found else 0) + 1, through=through, updated_ns=now_ns)
            self._database.upsert(connection, c, [_row(kept)])
            connection.execute(_FORGET, _key(twin.key))
            self._database.upsert(connection, twin_records, [{**_named(twin.key), "run": "cloud"}])
            record(connection, [_news(twin.key, now_ns, {"run": "cloud", "model": twin.model})])
        return kept

    def drop_cloud_twin(self, key: TwinKey, now_ns: int) -> None:
        """Ends a cloud twin, what it said stays; raises NOT_FOUND."""
        with self._database.write(key.tenant) as connection:
            if connection.execute(_LOCKED, _key(key)).first() is None:
                raise _unknown(key)
            connection.execute(_DROP, _key(key))
            connection.execute(_FORGET, _key(key))
            self._database.upsert(connection, twin_records, [{**_named(key), "run": "edge"}])
            record(connection, [_news(key, now_ns, {"run": "edge"})])

    def cloud_twin(self, key: TwinKey) -> CloudTwin:
        """One; raises NOT_FOUND when the twin does not run in the cloud."""
        with self._database.read(key.tenant) as connection:
            found = connection.execute(_ONE, _key(key)).mappings().first()
        if found is None:
            raise _unknown(key)
        return _twin(found)

    def cloud_twins(self, tenant: str = "") -> tuple[CloudTwin, ...]:
        """All of a tenant, or of all tenants."""
        statement = select(c).order_by(c.c.tenant, c.c.site, c.c.twin)
        if tenant:
            statement = statement.where(c.c.tenant == tenant)
        with self._database.read(tenant or "*") as connection:
            return tuple(_twin(row) for row in connection.execute(statement).mappings())

    def newest_commit(self) -> int:
        """The number of the newest commit or event of all."""
        with self._database.read() as connection:
            return int(connection.execute(_THROUGH).scalar() or 0)

    def fresh(self, signals: Signals, after: int) -> tuple[list[Fresh], int]:
        """What was committed after a number: event times of signals, and the number up to which this is all of it."""
        found: list[Fresh] = []
        with self._database.read() as connection:
            through = int(connection.execute(_THROUGH).scalar() or 0)
            ids = {self._gateway_id(connection, gateway): gateway for gateway in signals}
            asked = {"gateways": list(ids), "after": after, "until": through, "limit": BLOCKS_MAX + 1}
            rows = connection.execute(_NEWS, asked).all()
            if len(rows) > BLOCKS_MAX:
                # The last commit may lie only half within: it is left for the next look, unless it is all there is.
                through = rows[-1].commit_no - 1
                whole = [row for row in rows if row.commit_no <= through]
                rows, through = (whole, through) if whole else (rows, rows[-1].commit_no)
            for row in rows:
                found += self._times(connection, row, ids[row.gateway_id], signals[ids[row.gateway_id]])
            # After the blocks: what is compacted between the two looks is seen twice rather than never.
            for gateway_id, gateway in ids.items():
                found += self._compacted(connection, gateway_id, gateway, signals[gateway], (after, through))
        return found, through

    def _compacted(
        self,
        connection: Connection,
        gateway_id: int,
        gateway: GatewayKey,
        names: Sequence[str],
        numbers: tuple[int, int],
    ) -> Iterable[Fresh]:
        """What became hours before it was looked at: of a task that stood still, or of a block that came late."""
        asked = {"of_tenant": gateway.tenant, "of_gateway": gateway_id, "after": numbers[0]}
        for hour_ns in connection.execute(_HOURS, asked).scalars():
            wanted = Wanted(gateway.tenant, (gateway_id,), frozenset(names), hour_ns, hour_ns + HOUR_NS, numbers[1])
            for run in self._hours_tier.read(connection, wanted):
                new = run.commit_no > numbers[0]
                if new.any():
                    yield Fresh(gateway, run.signal, run.t_ns[new])

    def _times(self, connection: Connection, row: Any, gateway: GatewayKey, names: Sequence[str]) -> Iterable[Fresh]:
        catalogue = self._catalogue_by_id(connection, row.schema_id)
        wanted = {s.id: s.name for name in names if (s := catalogue.by_name.get(name)) is not None}
        if not wanted:
            return
        held = self._decoded.take([row.id]).get(row.id)
        batches = held.batches if held is not None else tuple(self._decode(row.payload, catalogue))
        for batch in batches:
            for signal in set(np.unique(batch.signal).tolist()) & wanted.keys():
                yield Fresh(gateway, wanted[signal], batch.t_ns[batch.signal == signal])

    def cloud_checkpoint(self, twin: CloudTwin, before_ns: int) -> tuple[int, bytes] | None:
        """The newest checkpoint with a tick before a time: its tick and the state after it."""
        asked = {**_key(twin.key), "before_ns": before_ns, "of_version": twin.version}
        with self._database.read(twin.key.tenant) as connection:
            found = connection.execute(_BEFORE, asked).first()
        return None if found is None else (found.tick_ns, found.state)

    def keep_cloud_step(
        self,
        old: CloudTwin,
        new: CloudTwin,
        request: tuple[GatewayKey, int, Sequence[Arrival]] | None,
        checkpoints: Mapping[int, bytes],
        now_ns: int,
    ) -> Commit | None:
        """Commits what a twin said, with how far it is now, in one transaction.

        Args:
            old: as the step began.
            new: as it ended.
            request: gateway, session and items; None when it said nothing.
            checkpoints: states after some ticks.
            now_ns: server time.

        Raises:
            ConflictError: FENCED when another replica has advanced the twin, or the session is not the current one.
        """

        def also(connection: Connection, answers: Sequence[Commit | TwinError]) -> None:
            for answer in answers:
                if isinstance(answer, TwinError):
                    raise answer
                if answer.nack is not None or answer.rejected or not answer.samples:
                    raise ConflictError("FENCED", f"cloud twin {old.key.twin!r}: numbers of its samples were taken")
            found = connection.execute(_LOCKED, _key(old.key)).mappings().first()
            if found is None or (found["version"], found["through"], found["tick_ns"]) != _place(old):
                raise ConflictError("FENCED", f"cloud twin {old.key.twin!r} was advanced or changed by somebody else")
            self._database.upsert(connection, c, [_row(replace(new, updated_ns=now_ns))])
            connection.execute(_BEYOND, {**_key(old.key), "from_ns": new.tick_ns})
            if checkpoints:
                rows = [{**_named(new.key), "tick_ns": tick, "version": new.version, "state": state}
                        for tick, state in checkpoints.items()]  # fmt: skip
                self._database.upsert(connection, k, rows)
                oldest = connection.execute(_OLDEST, _key(new.key)).scalar()
                if oldest is not None:
                    connection.execute(_UNTIL, {**_key(new.key), "until_ns": oldest})

        if request is None:
            with self._database.write(old.key.tenant) as connection:
                also(connection, ())
            return None
        (answer,) = self.commit_many([request], now_ns, also)
        assert isinstance(answer, Commit), "refusals were raised in the transaction"
        return answer


def _place(twin: CloudTwin) -> tuple[int, int, int]:
    return twin.version, twin.through, twin.tick_ns


def _unknown(key: TwinKey) -> MissingError:
    hint = "see `twinctl twin run-in-cloud`"
    return MissingError("NOT_FOUND", f"twin {key.twin!r} of site {key.site!r} does not run in the cloud", hint=hint)


def _named(key: TwinKey) -> dict[str, Any]:
    return {"tenant": key.tenant, "site": key.site, "twin": key.twin}


def _key(key: TwinKey) -> dict[str, Any]:
    return {"of_tenant": key.tenant, "of_site": key.site, "of_twin": key.twin}


def _news(key: TwinKey, now_ns: int, body: dict[str, object]) -> News:
    return News(key.tenant, key.site, "twin", key.twin, now_ns, body)


def _row(twin: CloudTwin) -> dict[str, Any]:
    names = ("version", "model", "digest", "wait_ns", "since_ns", "created_by", "created_ns", "tick_ns", "state",
             "through", "ticks", "revised", "too_late", "updated_ns", "reason", "detail")  # fmt: skip
    wiring = [{port: _plain(feed) for port, feed in some.items()} for some in (twin.wiring.inputs, twin.wiring.outputs)]
    reached = [[_plain(feed), t_ns] for feed, t_ns in twin.reached.items()]
    return {
        **_named(twin.key), **{name: getattr(twin, name) for name in names}, "wiring": pack(wiring),
        "reached": pack(reached),
    }  # fmt: skip


def _plain(feed: Feed) -> list[str]:
    return [feed.site, feed.twin, feed.prop, feed.role]


def _twin(row: RowMapping) -> CloudTwin:
    facts = dict(row)
    key = TwinKey(facts.pop("tenant"), facts.pop("site"), facts.pop("twin"))
    inputs, outputs = ({port: Feed(*feed) for port, feed in some.items()} for some in unpack(facts.pop("wiring")))
    reached = {Feed(*feed): t_ns for feed, t_ns in unpack(facts.pop("reached"))}
    return CloudTwin(key=key, wiring=Wiring(inputs, outputs), reached=reached, **facts)


_SAME = (c.c.tenant == bindparam("of_tenant"), c.c.site == bindparam("of_site"), c.c.twin == bindparam("of_twin"))
_ITS = (k.c.tenant == bindparam("of_tenant"), k.c.site == bindparam("of_site"), k.c.twin == bindparam("of_twin"))
_ONE = select(c).where(*_SAME)
_LOCKED = _ONE.with_for_update()
_DROP = delete(c).where(*_SAME)
_COUNT = select(func.count()).select_from(c).where(c.c.tenant == bindparam("tenant"))
_FORGET = delete(k).where(*_ITS)
_BEYOND = delete(k).where(*_ITS, k.c.tick_ns > bindparam("from_ns"))
_BEFORE = (
    select(k.c.tick_ns, k.c.state)
    .where(*_ITS, k.c.tick_ns < bindparam("before_ns"), k.c.version == bindparam("of_version"))
    .order_by(k.c.tick_ns.desc())
    .limit(1)
)
_HOURS = (
    select(hour_parts.c.hour_ns)
    .where(
        hour_parts.c.tenant == bindparam("of_tenant"),
        hour_parts.c.gateway_id == bindparam("of_gateway"),
        hour_parts.c.block_max > bindparam("after"),
    )
    .distinct()
    .order_by(hour_parts.c.hour_ns)
)
_OLDEST = select(k.c.tick_ns).where(*_ITS).order_by(k.c.tick_ns.desc()).offset(CHECKPOINTS_MAX).limit(1)
_UNTIL = delete(k).where(*_ITS, k.c.tick_ns <= bindparam("until_ns"))
_THROUGH = select(t.counters.c.value).where(t.counters.c.name == NUMBERS)
_NEWS = (
    select(t.blocks.c.id, t.blocks.c.gateway_id, t.blocks.c.schema_id, t.blocks.c.commit_no, t.blocks.c.payload)
    .where(
        t.blocks.c.gateway_id.in_(bindparam("gateways", expanding=True)),
        t.blocks.c.commit_no > bindparam("after"),
        t.blocks.c.commit_no <= bindparam("until"),
    )
    .order_by(t.blocks.c.id)
    .limit(bindparam("limit"))
)
