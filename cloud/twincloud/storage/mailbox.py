"""Directives: the desired thing of each target, its versions, and how each of them ended.

The version of a target grows by one; a newer directive supersedes the older one that is still open. The gateway's own
answer wins over that: it may have applied the older one just before the newer was made. A configuration may be on trial
on its gateway, so the oldest that is open stays so until the gateway has said how it ended; the newest waits there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import Connection, RowMapping, and_, bindparam, case, delete, exists, func, insert, or_, select, update

from twincloud.registry.fitness import misfits
from twincloud.storage import schema as t
from twincloud.storage.contract import Directive, GatewayKey, TwinKey
from twincloud.storage.models import find_model
from twincloud.storage.packing import plain, unpack_binding
from twincloud.storage.part import NUMBERS, News, Part, gateway_row, record, take_numbers
from twincloud.storage.readings import twin_row
from twincloud.storage.sessions import FORKED
from twincloud.twins.lifecycle import State, check_assignable
from twinmodel.errors import ConflictError, InputError, MissingError
from twinsync.limits import CONTENT_BYTES_MAX

MODEL = "model"
CONFIG = "config"
OUTCOMES = ("APPLIED", "REJECTED", "SUPERSEDED")
NEWER = "NEWER_DIRECTIVE"
"""Reason of an outcome that the coordinator gave, not the gateway."""

FIRST_BOOT = "site.yaml"
"""Who opened a directive that nobody asked for: the gateway's own configuration names the model."""

NO_DEADLINE = 0

SYSTEM = "@"
"""Begins the target of a directive that is for no twin."""

HEAD_BYTES = 4096
"""How much of a content is read for lists; who wants to tell something there writes it first."""
KEPT_OF_TARGET = 100
"""How many directives of one target are kept."""

_ID_BYTES = 16
_log = structlog.get_logger(__name__)


class MailboxStore(Part):
    """Keeps directives; see `Ingest` and `Registry`."""

    def assign_model(self, key: TwinKey, reference: str, *, by: str, now_ns: int, deadline_ns: int) -> Directive:
        """See `Registry.assign_model`."""
        with self._database.write(key.tenant) as connection:
            return self._assign(connection, key, reference, by=by, now_ns=now_ns, deadline_ns=deadline_ns)

    def assign_defaults(self, tenant: str, *, gateway: GatewayKey | None, now_ns: int) -> tuple[Directive, ...]:
        """See `Ingest.assign_defaults`."""
        # Asked at each hello and mostly in vain: a reader holds up nobody.
        with self._database.read(tenant) as connection:
            if not any(unpack_binding(binding).model for _, _, binding in self._wanting(connection, tenant, gateway)):
                return ()
        opened = []
        with self._database.write(tenant) as connection:
            for site, twin, binding in self._wanting(connection, tenant, gateway):
                reference = unpack_binding(binding).model
                if not reference:
                    continue
                key = TwinKey(tenant, site, twin)
                try:
                    opened.append(
                        self._assign(connection, key, reference, by=FIRST_BOOT, now_ns=now_ns, deadline_ns=NO_DEADLINE)
                    )
                except (ConflictError, MissingError) as unfit:
                    _log.info(
                        "model of site.yaml not assigned", twin=key.twin, reason=unfit.reason, detail=unfit.message
                    )
        return tuple(opened)

    def _wanting(self, connection: Connection, tenant: str, gateway: GatewayKey | None) -> list[tuple[Any, ...]]:
        """Site, name and binding of the twins that were never assigned a model."""
        if gateway is None:
            return self._database.read_many(connection, _UNASSIGNED, [{"tenant": tenant}])
        asked = {"tenant": tenant, "site": gateway.site, "gateway": gateway.gateway}
        return self._database.read_many(connection, _UNASSIGNED_OF, [asked])

    def _assign(
        self, connection: Connection, key: TwinKey, reference: str, *, by: str, now_ns: int, deadline_ns: int
    ) -> Directive:
        """Opens a directive; what can be refused is refused before anything is written."""
        twin = twin_row(connection, key)
        check_assignable(key.twin, State(twin["state"]))
        model = find_model(connection, key.tenant, reference)
        catalogue = self._catalogue_by_id(connection, twin["schema_id"])
        found = misfits(model.inputs, model.outputs, unpack_binding(twin["binding"]), catalogue)
        if found:
            raise ConflictError(
                "MODEL_UNFIT",
                f"model {reference} does not fit twin {key.twin!r}: {'; '.join(found)}",
                misfits=found,
            )
        wanted = {
            "target": key.twin,
            "kind": MODEL,
            "name": f"{model.name}@{model.version}",
            "digest": model.digest,
            "size": model.size,
            "created_ns": now_ns,
            "created_by": by,
            "deadline_ns": deadline_ns,
        }
        gateway = GatewayKey(key.tenant, key.site, twin["gateway"])
        return self._open(connection, gateway, twin["gateway_id"], wanted)

    def open_directive(
        self,
        gateway: GatewayKey,
        kind: str,
        target: str,
        *,
        name: str,
        content: bytes,
        by: str,
        now_ns: int,
        deadline_ns: int = NO_DEADLINE,
    ) -> Directive:
        """See `Registry.open_directive`."""
        if not target.startswith(SYSTEM):
            raise InputError("VALUE_INVALID", f"{target!r} could be a twin; targets begin with {SYSTEM}")
        if len(content) > CONTENT_BYTES_MAX:
            raise InputError("LIMIT_EXCEEDED", f"{name}: {len(content)} bytes, at most {CONTENT_BYTES_MAX}")
        wanted = {"target": target, "kind": kind, "name": name, "content": content, "created_ns": now_ns}
        wanted |= {"created_by": by, "deadline_ns": deadline_ns}
        with self._database.write(gateway.tenant) as connection:
            return self._open(connection, gateway, self._gateway_id(connection, gateway), wanted)

    def _open(
        self, connection: Connection, gateway: GatewayKey, gateway_id: int, wanted: Mapping[str, Any]
    ) -> Directive:
        """Opens the next version of a target, in the place of those that are still open."""
        target, now_ns = wanted["target"], wanted["created_ns"]
        same = {"of_gateway": gateway_id, "of_target": target}
        spared = (connection.execute(_OLDEST_OPEN, same).scalar() or 0) if wanted["kind"] == CONFIG else 0
        row = {"digest": "", "size": 0, "content": b"", **wanted}
        row |= {
            "number": take_numbers(connection, NUMBERS, 1),
            "id": secrets.token_hex(_ID_BYTES),
            "tenant": gateway.tenant,
            "gateway_id": gateway_id,
            "version": int(connection.execute(_VERSION, same).scalar() or 0) + 1,
            "outcome": "",
            "reason": "",
            "detail": "",
            "ended_ns": 0,
        }
        detail = f"version {row['version']} was assigned by {row['created_by']}"
        connection.execute(_SUPERSEDE, {**same, "spared": spared, "why": NEWER, "what": detail, "now_ns": now_ns})
        connection.execute(insert(t.directives), row)
        body: dict[str, object] = {"twin": target, "name": row["name"], "version": row["version"], "outcome": ""}
        news = [News(gateway.tenant, gateway.site, "directive", target, now_ns, body | {"gateway": gateway.gateway})]
        if target.startswith(SYSTEM):  # no twin tells other replicas whom to wake
            told: dict[str, object] = {"directive": row["id"]}
            news.append(News(gateway.tenant, gateway.site, "gateway", gateway.gateway, now_ns, told))
        record(connection, news)
        return directive_of(row, gateway)

    def open_directives(self, gateway: GatewayKey) -> tuple[Directive, ...]:
        """See `Ingest.open_directives`; none while the gateway's identity is forked."""
        with self._database.read(gateway.tenant) as connection:
            row = gateway_row(connection, gateway)
            if row["state"] == FORKED:
                return ()
            rows = connection.execute(_OPEN, {"gateway_id": row["id"]}).mappings().all()
        return tuple(directive_of(row, gateway) for row in rows)

    def settle_directive(
        self, gateway: GatewayKey, directive: str, outcome: str, *, reason: str, detail: str, running: str, now_ns: int
    ) -> None:
        """See `Ingest.settle_directive`; the first answer of a gateway stands, a later one that differs is recorded.

        `running` is the hex digest of what runs for the target now, "" when the gateway does not say.
        """
        if outcome not in OUTCOMES:
            raise InputError("PROTOCOL_VIOLATION", f"directive_state.outcome: {outcome!r} is none", field="outcome")
        with self._database.write(gateway.tenant) as connection:
            gateway_id = self._gateway_id(connection, gateway)
            row = connection.execute(_BY_ID, {"gateway_id": gateway_id, "id": directive}).mappings().first()
            if row is None:
                raise MissingError("NOT_FOUND", f"no directive {directive!r} of gateway {gateway.gateway!r}")
            if row["outcome"] == outcome and row["reason"] != NEWER:
                return
            body: dict[str, object] = {"twin": row["target"], "name": row["name"], "version": row["version"]}
            body |= {"outcome": outcome, "reason": reason, "gateway": gateway.gateway}
            if row["outcome"] and row["reason"] != NEWER:
                body["kept"] = row["outcome"]
            else:
                ended: dict[str, object] = {"outcome": outcome, "reason": plain(reason), "ended_ns": now_ns}
                ended["detail"] = plain(detail)
                if running and row["kind"] == CONFIG:
                    ended["digest"] = running
                connection.execute(_SETTLE, {"key": row["number"], **ended})
                if running and row["kind"] == MODEL:
                    name = row["name"] if running == row["digest"] else ""
                    self._put_digest(connection, gateway.tenant, gateway_id, row["target"], running, name, now_ns)
            record(connection, [News(gateway.tenant, gateway.site, "directive", row["target"], now_ns, body)])

    def directives(self, tenant: str, *, target: str = "", limit: int = 100) -> tuple[Directive, ...]:
        """See `Registry.directives`."""
        statement = _ALL.where(t.gateways.c.tenant == tenant).limit(max(1, limit))
        if target:
            statement = statement.where(t.directives.c.target == target)
        with self._database.read(tenant) as connection:
            rows = connection.execute(statement).mappings().all()
        return tuple(directive_of(row, GatewayKey(tenant, row["site"], row["gateway"])) for row in rows)

    def configurations(self, gateway: GatewayKey, limit: int = 50) -> tuple[Directive, ...]:
        """See `Registry.configurations`."""
        with self._database.read(gateway.tenant) as connection:
            gateway_id = self._gateway_id(connection, gateway)
            asked = {"gateway_id": gateway_id, "kind": CONFIG, "most": max(1, limit)}
            rows = connection.execute(_CONFIGURATIONS, asked).mappings().all()
        return tuple(directive_of(row, gateway) for row in rows)

    def directive(self, gateway: GatewayKey, directive: str) -> Directive:
        """See `Listings.directive`."""
        with self._database.read(gateway.tenant) as connection:
            asked = {"gateway_id": self._gateway_id(connection, gateway), "id": directive}
            row = connection.execute(_BY_ID, asked).mappings().first()
        if row is None:
            raise MissingError("NOT_FOUND", f"no directive {directive!r} of gateway {gateway.gateway!r}")
        return directive_of(row, gateway)

    def forget_directives(self, before_ns: int, limit: int) -> int:
        """See `Listings.forget_directives`."""
        asked = {"before_ns": before_ns, "many": KEPT_OF_TARGET, "limit": limit}
        with self._database.read() as connection:  # nobody waits while they are looked for
            doomed = connection.execute(_OLD, asked).scalars().all()
        if doomed:
            with self._database.write() as connection:
                connection.execute(delete(t.directives).where(t.directives.c.number.in_(doomed)))
        return len(doomed)

    def _put_digest(
        self, connection: Connection, tenant: str, gateway_id: int, twin: str, digest: str, name: str, now_ns: int
    ) -> None:
        known = connection.execute(_RUNNING, {"gateway_id": gateway_id, "twin": twin}).mappings().first()
        if known is not None and known["digest"] == digest:
            return
        tier = known["tier"] if known is not None else ""
        place = {"tenant": tenant, "gateway_id": gateway_id, "twin": twin}
        row = place | {"digest": digest, "name": name, "tier": tier, "at_ns": now_ns}
        # Another model: whatever was to blame for the drift of the one before it.
        row["isolation"] = ""
        self._database.upsert(connection, t.running, [row])


def directive_of(row: Mapping[str, Any] | RowMapping, gateway: GatewayKey) -> Directive:
    """The directive of a row; one of `LISTED` comes without its content."""
    names = Directive.__dataclass_fields__.keys() - {"gateway", "content"}
    # SQLite keeps the default of rows older than the column as text.
    content = row.get("content") or b""
    return Directive(gateway=gateway, content=content, **{name: row[name] for name in names})


LISTED = tuple(column for column in t.directives.c if column.name != "content")
"""Columns for lists, where nobody reads contents."""

_SAME = (t.directives.c.gateway_id == bindparam("of_gateway"), t.directives.c.target == bindparam("of_target"))
_VERSION = select(func.max(t.directives.c.version)).where(*_SAME)
_SUPERSEDE = (
    update(t.directives)
    .where(*_SAME, t.directives.c.outcome == "", t.directives.c.number != bindparam("spared"))
    .values(outcome="SUPERSEDED", reason=bindparam("why"), detail=bindparam("what"), ended_ns=bindparam("now_ns"))
)
_OLDEST_OPEN = select(func.min(t.directives.c.number)).where(*_SAME, t.directives.c.outcome == "")
_UNASSIGNED = (
    select(t.twins.c.site, t.twins.c.twin, t.twins.c.binding)
    .join(t.gateways, t.gateways.c.id == t.twins.c.gateway_id)
    .where(
        t.twins.c.tenant == bindparam("tenant"),
        t.twins.c.retired.is_(False),
        ~exists().where(t.directives.c.gateway_id == t.twins.c.gateway_id, t.directives.c.target == t.twins.c.twin),
    )
    .order_by(t.twins.c.site, t.twins.c.twin)
)
_UNASSIGNED_OF = _UNASSIGNED.where(t.gateways.c.site == bindparam("site"), t.gateways.c.gateway == bindparam("gateway"))
_OPEN = (
    select(t.directives)
    .where(t.directives.c.gateway_id == bindparam("gateway_id"), t.directives.c.outcome == "")
    .order_by(t.directives.c.number)
)
_CONFIGURATIONS = (
    select(*LISTED, func.substr(t.directives.c.content, 1, HEAD_BYTES).label("content"))
    .where(t.directives.c.gateway_id == bindparam("gateway_id"), t.directives.c.kind == bindparam("kind"))
    .order_by(t.directives.c.number.desc())
    .limit(bindparam("most"))
)
_BY_ID = select(t.directives).where(
    t.directives.c.gateway_id == bindparam("gateway_id"), t.directives.c.id == bindparam("id")
)
_SETTLE = update(t.directives).where(t.directives.c.number == bindparam("key"))
_RUNNING = select(t.running).where(
    t.running.c.gateway_id == bindparam("gateway_id"), t.running.c.twin == bindparam("twin")
)
_ALL = (
    select(*LISTED, t.gateways.c.site, t.gateways.c.gateway)
    .join(t.gateways, t.gateways.c.id == t.directives.c.gateway_id)
    .order_by(t.directives.c.number.desc())
)
_RANKED = select(
    t.directives.c.number,
    t.directives.c.kind,
    t.directives.c.outcome,
    t.directives.c.ended_ns,
    func.row_number()
    .over(partition_by=(t.directives.c.gateway_id, t.directives.c.target), order_by=t.directives.c.number.desc())
    .label("rank"),
    func.max(case((t.directives.c.outcome == "APPLIED", t.directives.c.number), else_=0))
    .over(partition_by=(t.directives.c.gateway_id, t.directives.c.target))
    .label("applied"),
).subquery()
_OLD = (
    # The newest of a target says its version, the last that was applied what runs; models tell who wanted them when.
    select(_RANKED.c.number)
    .where(
        _RANKED.c.outcome != "",
        _RANKED.c.rank > 1,
        _RANKED.c.number != _RANKED.c.applied,
        or_(
            _RANKED.c.rank > bindparam("many"),
            and_(_RANKED.c.kind != MODEL, _RANKED.c.ended_ns < bindparam("before_ns")),
        ),
    )
    .order_by(_RANKED.c.number)
    .limit(bindparam("limit"))
)
