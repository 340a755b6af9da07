"""Catalogues and the twins they bind: a gateway's current catalogue says which twins it serves.

Current is the last digest of `Hello.schemas`; the ones before it belong to blocks that are still on their way and
make no twin of their own. A catalogue that the hello did not name came with a change of configuration and is
current at once. A twin that the current catalogue of its gateway no longer binds is retired: it is not listed, its
history stays, and whichever gateway binds it next takes it over.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from twincloud.storage import schema as t
from twincloud.storage import schema_twins
from twincloud.storage.contract import GatewayKey
from twincloud.storage.packing import pack_binding, pack_catalogue
from twincloud.storage.part import BINDINGS, NUMBERS, News, Part, check_session, gateway_row, take_numbers_fast
from twinmodel.errors import ConflictError
from twinmodel.signal import Catalogue, TwinBinding
from twinsync.limits import DIGEST_BYTES


class CatalogueStore(Part):
    """Keeps catalogues and binds twins; see `Ingest`."""

    def put_catalogue(self, gateway: GatewayKey, session: int, catalogue: Catalogue, now_ns: int) -> None:
        """See `Ingest.put_catalogue`."""
        digest = catalogue.digest
        with self._database.write() as connection:
            row = gateway_row(connection, gateway)
            check_session(gateway, row["session"], session)
            schema_id = self._schema(connection, digest)
            if schema_id is None:
                content = {"digest": digest, "content": pack_catalogue(catalogue)}
                connection.execute(insert(t.schemas), content)
                schema_id = self._schema(connection, digest)
                assert schema_id is not None, "it was just put there"
            held = {"tenant": gateway.tenant, "gateway_id": row["id"], "schema_id": schema_id, "received_ns": now_ns}
            self._database.upsert(connection, t.gateway_schemas, [held])
            if digest not in _digests(row["hello_schemas"])[:-1]:
                self._apply(connection, gateway, row["id"], schema_id, catalogue, now_ns)

    def catalogue(self, gateway: GatewayKey, digest: bytes) -> Catalogue:
        """See `Ingest.catalogue`."""
        gateway_id, schema_id = self._gateway_ids.get(gateway), None
        if gateway_id is not None:
            schema_id = self._schema_ids.get((gateway_id, digest))
        known = None if schema_id is None else self._catalogues.get(schema_id)
        if known is not None:
            return known
        with self._database.read(gateway.tenant) as connection:
            found = self._schema_id(connection, self._gateway_id(connection, gateway), digest)
            if found is None:
                raise ConflictError(
                    "SCHEMA_UNKNOWN", f"gateway {gateway.gateway!r} has not sent the catalogue {digest.hex()}"
                )
            return self._catalogue_by_id(connection, found)

    def _apply_catalogue(
        self, connection: Connection, gateway: GatewayKey, gateway_id: int, digest: bytes, now_ns: int
    ) -> None:
        """Makes a catalogue that is already held the current one."""
        schema_id = self._schema(connection, digest)
        assert schema_id is not None, "the gateway has sent it"
        catalogue = self._catalogue_by_id(connection, schema_id)
        self._apply(connection, gateway, gateway_id, schema_id, catalogue, now_ns)

    def _schema(self, connection: Connection, digest: bytes) -> int | None:
        found = self._database.read_many(connection, _SCHEMA, [{"digest": digest}])
        return int(found[0][0]) if found else None

    def _apply(
        self,
        connection: Connection,
        gateway: GatewayKey,
        gateway_id: int,
        schema_id: int,
        catalogue: Catalogue,
        now_ns: int,
    ) -> None:
        ((current,),) = self._database.read_many(connection, _CURRENT, [{"key": gateway_id}])
        conflicts = self._bind(connection, gateway, gateway_id, schema_id, catalogue.twins, now_ns)
        if current == schema_id and not conflicts:
            return
        self._database.write_many(connection, _SET_CURRENT, [{"key": gateway_id, "schema_id": schema_id}])
        bound = {binding.twin for binding in catalogue.twins}
        own = self._database.read_many(connection, _OWN, [{"gateway_id": gateway_id}])
        gone = [(key, twin) for key, twin in own if twin not in bound]
        if gone:
            revision = take_numbers_fast(self._database, connection, NUMBERS, 1)
            connection.execute(_RETIRE, [{"key": key, "to": revision} for key, _ in gone])
        news = [News(gateway.tenant, gateway.site, "twin", twin, now_ns, {"retired": True}) for _, twin in gone]
        if current != schema_id:
            body: dict[str, object] = {"catalogue": catalogue.digest.hex(), "twins": len(bound)}
            news.append(News(gateway.tenant, gateway.site, "gateway", gateway.gateway, now_ns, body))
        self._record(connection, [*news, *conflicts])

    def _bind(
        self,
        connection: Connection,
        gateway: GatewayKey,
        gateway_id: int,
        schema_id: int,
        bindings: Sequence[TwinBinding],
        now_ns: int,
    ) -> list[News]:
        """Makes, updates and takes over twins; returns a notice for each that another gateway serves."""
        there = {"tenant": gateway.tenant, "site": gateway.site}
        found = self._database.read_many(connection, _TWINS, [there] if bindings else [])
        known = {twin: (key, owner, schema, bool(retired)) for key, twin, owner, schema, retired in found}
        made, changed, conflicts = [], [], []
        # Filled again by commits only, and those run after this transaction.
        self._bounds_held.clear()
        for binding in bindings:
            row = known.get(binding.twin)
            packed = pack_binding(binding)
            fields = {"gateway_id": gateway_id, "schema_id": schema_id, "definition": binding.definition,
                      "binding": packed, "retired": False, "updated_ns": now_ns}  # fmt: skip
            if row is None:
                made.append({**there, "twin": binding.twin, **fields})
            elif row[1] != gateway_id and not row[3]:
                body: dict[str, object] = {"conflict": True, "gateway": gateway.gateway}
                conflicts.append(News(gateway.tenant, gateway.site, "twin", binding.twin, now_ns, body))
            elif row[1:] != (gateway_id, schema_id, False):
                changed.append({"key": row[0], **fields})
        if made or changed:
            # Numbers of commits, so that a revision only ever grows.
            revision = {"revision": take_numbers_fast(self._database, connection, NUMBERS, 1)}
            take_numbers_fast(self._database, connection, BINDINGS, 1)
            if made:
                connection.execute(insert(t.twins), [row | revision for row in made])
                # Its record, where nobody has described it before; one that is there stays as it is.
                records = [{**there, "twin": row["twin"]} for row in made]
                self._database.upsert(connection, schema_twins.twin_records, records)
            if changed:
                connection.execute(_REBIND, [row | revision for row in changed])
        self._give_owners(connection, gateway.tenant, gateway_id, now_ns)
        return conflicts

    def _give_owners(self, connection: Connection, tenant: str, gateway_id: int, now_ns: int) -> None:
        """Notes that the gateway has served each of its twins."""
        unowned = self._database.read_many(connection, _UNOWNED, [{"gateway_id": gateway_id}])
        if unowned:
            owner = {"tenant": tenant, "gateway_id": gateway_id, "since_ns": now_ns}
            owners = [{"twin_id": twin, **owner} for (twin,) in unowned]
            connection.execute(insert(t.twin_owners), owners)


def _digests(joined: bytes) -> list[bytes]:
    return [joined[n : n + DIGEST_BYTES] for n in range(0, len(joined), DIGEST_BYTES)]


_SCHEMA = select(t.schemas.c.id).where(t.schemas.c.digest == bindparam("digest"))
_CURRENT = select(t.gateways.c.schema_id).where(t.gateways.c.id == bindparam("key"))
_SET_CURRENT = update(t.gateways).where(t.gateways.c.id == bindparam("key"))
_TWINS = select(t.twins.c.id, t.twins.c.twin, t.twins.c.gateway_id, t.twins.c.schema_id, t.twins.c.retired).where(
    t.twins.c.tenant == bindparam("tenant"), t.twins.c.site == bindparam("site")
)
_OWN = select(t.twins.c.id, t.twins.c.twin).where(
    t.twins.c.gateway_id == bindparam("gateway_id"), t.twins.c.retired.is_(False)
)
_RETIRE = update(t.twins).where(t.twins.c.id == bindparam("key")).values(retired=True, revision=bindparam("to"))
_REBIND = update(t.twins).where(t.twins.c.id == bindparam("key"))
_UNOWNED = (
    select(t.twins.c.id)
    .outerjoin(
        t.twin_owners,
        (t.twin_owners.c.twin_id == t.twins.c.id) & (t.twin_owners.c.gateway_id == t.twins.c.gateway_id),
    )
    .where(t.twins.c.gateway_id == bindparam("gateway_id"), t.twin_owners.c.twin_id.is_(None))
)
