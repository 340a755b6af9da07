"""What people say of twins: many conditional changes in one transaction, each cheap, each with an answer of its own.

    numbers taken ─▶ records read ─▶ each change judged and made in memory ─▶ rows written ─▶ events ─▶ COMMIT

The numbers come first: whoever holds the counter's row is the only one who changes records, on every replica, so what
is read after that stays true until the commit. A change that is refused has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_, update

from twincloud.storage import schema as base
from twincloud.storage import schema_twins as t
from twincloud.storage.contract import Page, TwinKey
from twincloud.storage.definitions import DefinitionStore
from twincloud.storage.demands import check_demand, unknown_twin
from twincloud.storage.models import check_tenant
from twincloud.storage.outbox import prune_events
from twincloud.storage.packing import pack, unpack
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import NUMBERS, News, limited, take_numbers_fast
from twincloud.storage.records_twins import TwinChange, TwinRecord
from twincloud.storage.relations import check_complete, check_redefined, check_unrelated
from twincloud.twins.document import BYTES_MAX, DefinitionOf, Desired, Document, merged
from twincloud.twins.lifecycle import FIRST, LISTED, State
from twinmodel.errors import ConflictError, InputError, MissingError, TwinError

CHANGES_MAX = 5_000
PRUNE_EVERY = 64
_EMPTY = Document()


class RecordStore(DefinitionStore):
    """Keeps records of twins; see `TwinsOfPeople`."""

    _rounds = 0

    def patch_twins(
        self, tenant: str, changes: Sequence[TwinChange], now_ns: int
    ) -> list[TwinRecord | TwinError | None]:
        """See `TwinsOfPeople.patch_twins`."""
        if len(changes) > CHANGES_MAX:
            raise InputError("LIMIT_EXCEEDED", f"{len(changes)} changes at once, at most {CHANGES_MAX}")
        if not changes:
            return []
        answers: list[TwinRecord | TwinError | None] = []
        with self._database.write(tenant) as connection:
            check_tenant(connection, tenant)
            first = take_numbers_fast(self._database, connection, NUMBERS, len(changes))
            work = _Round(connection, self._definition_of(connection, tenant), now_ns)
            asked = {change.key: _asked(change.key) for change in changes}
            work.load(self._database.read_many(connection, _RECORD, list(asked.values())), tenant)
            for number, change in enumerate(changes, first):
                try:
                    answers.append(work.make(change, number))
                except TwinError as refused:
                    answers.append(refused)
            self._write_round(connection, work, tenant)
            self._rounds += 1
            if self._rounds % PRUNE_EVERY == 0:
                prune_events(connection, self._clock.wall_ns())
        return answers

    def patch_twin(self, change: TwinChange, now_ns: int) -> TwinRecord | None:
        """See `TwinsOfPeople.patch_twin`."""
        answer = self.patch_twins(change.key.tenant, [change], now_ns)[0]
        if isinstance(answer, TwinError):
            raise answer
        return answer

    def twin_record(self, key: TwinKey) -> TwinRecord:
        """See `TwinsOfPeople.twin_record`."""
        with self._database.read(key.tenant) as connection:
            rows = self._database.read_many(connection, _RECORD, [_asked(key)])
            if not rows:
                raise unknown_twin(connection, key)
        return _record(rows[0], key.tenant)

    def twin_records(
        self, tenant: str, *, site: str = "", state: str = "", run: str = "", limit: int = 100, token: str = ""
    ) -> Page[TwinRecord]:
        """See `TwinsOfPeople.twin_records`."""
        c = t.twin_records.c
        statement = _RECORDS.where(c.tenant == tenant, c.state == state if state else c.state.in_(LISTED))
        for column, wanted in ((c.site, site), (c.run, run)):
            if wanted:
                statement = statement.where(column == wanted)
        if token:
            statement = statement.where(tuple_(c.site, c.twin) > tuple_(*place_of(token, str, str)))
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(c.site, c.twin), limit)).all()
        return page_of([_record(tuple(row), tenant) for row in rows], limit, lambda r: (r.key.site, r.key.twin))

    def _write_round(self, connection: Connection, work: _Round, tenant: str) -> None:
        """Writes what a round has changed; rows of one shape together."""
        write_many = self._database.write_many
        for site in sorted({key.site for key in work.made}):
            if connection.execute(_SITE, {"tenant": tenant, "site": site}).first() is None:
                connection.execute(insert(base.sites), {"tenant": tenant, "site": site, "created_ns": work.now_ns})
        write_many(connection, _DELETE, [_asked(key) for key in work.deleted])
        changed = [(key, work.records[key]) for key in work.changed if key in work.records]
        write_many(connection, _INSERT, [_row(r) for key, r in changed if key in work.made])
        write_many(connection, _UPDATE, [_changed_row(r) for key, r in changed if key not in work.made])
        tagged = [key for key in work.tagged if key in work.records]
        write_many(connection, _UNTAG, [_asked(key) for key in (*tagged, *work.deleted)])
        tags = [
            {**_named(key), "tag": tag, "value": value}
            for key in tagged
            for tag, value in work.records[key].document.tags.items()
        ]
        write_many(connection, _TAG, tags)
        by_site: dict[str, list[str]] = {}
        for key in (*work.changed, *work.deleted):
            by_site.setdefault(key.site, []).append(key.twin)
        self._record(connection, [_news(tenant, site, twins, work.now_ns) for site, twins in by_site.items()])


class _Round:
    """The records of one transaction as they are now, and what has become of them."""

    def __init__(self, connection: Connection, definition_of: DefinitionOf, now_ns: int) -> None:
        self.connection = connection
        self.definition_of = definition_of
        self.now_ns = now_ns
        self.records: dict[TwinKey, TwinRecord] = {}
        self.changed: dict[TwinKey, None] = {}
        self.made: set[TwinKey] = set()
        self.deleted: dict[TwinKey, None] = {}
        self.tagged: dict[TwinKey, None] = {}

    def load(self, rows: Sequence[tuple[Any, ...]], tenant: str) -> None:
        for row in rows:
            record = _record(row, tenant)
            self.records[record.key] = record

    def make(self, change: TwinChange, number: int) -> TwinRecord | None:
        key, old = change.key, self.records.get(change.key)
        check_demand(change.demand, None if old is None else old.revision, f"the record of {key.twin!r}")
        if change.kind == "delete":
            self._delete(key, old)
            return None
        if old is None and change.kind == "patch":
            hint = "make it with `twinctl twin create`, or send PUT"
            raise MissingError("UNKNOWN_TWIN", f"no twin {key.twin!r} at site {key.site!r}", hint=hint)
        if old is not None and change.kind == "create":
            text = f"twin {key.twin!r} at site {key.site!r} has a record already"
            raise ConflictError("ALREADY_EXISTS", text, hint="patch it", etag=f'"{old.revision}"')
        document = self._document(change, old)
        created_ns = self.now_ns if old is None else old.created_ns
        record = TwinRecord(key, document, number, created_ns, self.now_ns, change.by)
        if len(_packed(document)) > BYTES_MAX:
            text = f"the record of {key.twin!r} would have more than {BYTES_MAX} bytes"
            raise InputError("LIMIT_EXCEEDED", text, hint="keep large texts elsewhere and a link to them here")
        if old is None and key not in self.deleted:
            self.made.add(key)
        if key in self.deleted:
            del self.deleted[key]
        if old is None or old.document.tags != document.tags:
            self.tagged[key] = None
        self.records[key] = record
        self.changed[key] = None
        return record

    def _document(self, change: TwinChange, old: TwinRecord | None) -> Document:
        key, body = change.key, change.body
        before = old.document if old is not None else _EMPTY
        if change.kind != "patch":
            if not isinstance(body, dict):
                raise InputError("REQUEST_INVALID", "the record: it is no JSON object")
            state = State.DRAFT if old is None else before.state
            if old is None:
                state = _first(key.twin, body.get("state", state))
            before, body = Document(state=state), {name: part for name, part in body.items() if part is not None}
        document = merged(key.twin, before, body, self.definition_of, by=change.by, now_ns=self.now_ns)
        self._check_relations(key, old, document)
        return document

    def _check_relations(self, key: TwinKey, old: TwinRecord | None, new: Document) -> None:
        """Relationships stay what the definitions allow."""
        definition = self.definition_of(new.definition) if new.definition else None
        before = old.document if old is not None else None
        if before is not None and before.definition != new.definition:
            check_redefined(self.connection, key, definition, self.definition_of)
        waits = before is None or before.state in (State.DRAFT, State.RETIRED)
        if definition is not None and waits and new.state not in (State.DRAFT, State.RETIRED):
            check_complete(self.connection, key, definition)

    def _delete(self, key: TwinKey, old: TwinRecord | None) -> None:
        if old is None:
            raise MissingError("UNKNOWN_TWIN", f"no twin {key.twin!r} at site {key.site!r}")
        if old.document.state not in (State.DRAFT, State.RETIRED):
            text = f"twin {key.twin!r} is {old.document.state}: only drafts and retired twins are deleted"
            raise ConflictError("TWIN_IN_USE", text, hint=f"retire it: `twinctl twin set {key.twin} --state retired`")
        if self.connection.execute(_REPORTED, _asked(key)).first() is not None:
            text = f"twin {key.twin!r} has history that gateways reported"
            raise ConflictError("TWIN_IN_USE", text, hint="leave it retired: it is not listed, and its history stays")
        check_unrelated(self.connection, key)
        del self.records[key]
        self.changed.pop(key, None)
        self.tagged.pop(key, None)
        if key in self.made:
            self.made.discard(key)
        else:
            self.deleted[key] = None


def unpack_document(definition: str, state: str, run: str, blob: bytes) -> Document:
    """The document of a row."""
    if not blob:
        return Document(definition, State(state), run)
    tags, attributes, desired = unpack(blob)
    wanted = {name: Desired(*one) for name, one in desired.items()}
    return Document(definition, State(state), run, tags, attributes, wanted)


def _packed(document: Document) -> bytes:
    desired = {name: [one.value, one.unit, one.by, one.at_ns] for name, one in document.desired.items()}
    return pack([dict(document.tags), dict(document.attributes), desired])


def _record(row: Sequence[Any], tenant: str) -> TwinRecord:
    site, twin, definition, state, run, blob, revision, created_ns, updated_ns, updated_by = row
    document = unpack_document(definition, state, run, blob)
    return TwinRecord(TwinKey(tenant, site, twin), document, revision, created_ns, updated_ns, updated_by)


def _first(twin: str, wanted: object) -> State:
    """The state a twin is made in."""
    state = next((state for state in FIRST if state == wanted), None)
    if state is None:
        allowed = ", ".join(FIRST)
        text = f"twin {twin!r} cannot be made {str(wanted)[:64]!r}"
        raise ConflictError("TRANSITION_FORBIDDEN", text, hint=f"make it {allowed}", allowed=allowed)
    return state


def _news(tenant: str, site: str, twins: list[str], now_ns: int) -> News:
    body: dict[str, object] = {"record": True, "twins": twins}
    return News(tenant, site, "twin", twins[0] if len(twins) == 1 else "", now_ns, body)


def _asked(key: TwinKey) -> dict[str, object]:
    return {"of_tenant": key.tenant, "of_site": key.site, "of_twin": key.twin}


def _named(key: TwinKey) -> dict[str, object]:
    return {"tenant": key.tenant, "site": key.site, "twin": key.twin}


def _changed_row(record: TwinRecord) -> Mapping[str, object]:
    document = record.document
    return {
        **_asked(record.key), "definition": document.definition, "state": str(document.state), "run": document.run,
        "document": _packed(document), "revision": record.revision, "updated_ns": record.updated_ns,
        "updated_by": record.updated_by,
    }  # fmt: skip


def _row(record: TwinRecord) -> Mapping[str, object]:
    document = record.document
    return {
        **_named(record.key), "definition": document.definition, "state": str(document.state), "run": document.run,
        "document": _packed(document), "revision": record.revision, "created_ns": record.created_ns,
        "updated_ns": record.updated_ns, "updated_by": record.updated_by,
    }  # fmt: skip


_C = t.twin_records.c
_RECORDS = select(
    _C.site, _C.twin, _C.definition, _C.state, _C.run, _C.document, _C.revision, _C.created_ns, _C.updated_ns,
    _C.updated_by,
)  # fmt: skip
_OF = (_C.tenant == bindparam("of_tenant")) & (_C.site == bindparam("of_site")) & (_C.twin == bindparam("of_twin"))
_RECORD = _RECORDS.where(_OF)
_INSERT = insert(t.twin_records)
_UPDATE = update(t.twin_records).where(_OF)
_DELETE = delete(t.twin_records).where(_OF)
_TAGGED = t.twin_tags.c
_UNTAG = delete(t.twin_tags).where(
    _TAGGED.tenant == bindparam("of_tenant"), _TAGGED.site == bindparam("of_site"), _TAGGED.twin == bindparam("of_twin")
)
_TAG = insert(t.twin_tags)
_SITE = select(base.sites.c.site).where(
    base.sites.c.tenant == bindparam("tenant"), base.sites.c.site == bindparam("site")
)
_REPORTED = select(base.twins.c.id).where(
    base.twins.c.tenant == bindparam("of_tenant"),
    base.twins.c.site == bindparam("of_site"),
    base.twins.c.twin == bindparam("of_twin"),
)
