"""Twins and their history, read from the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, func, select, tuple_

from twincloud.filters import Filter
from twincloud.storage import schema as t
from twincloud.storage import schema_twins
from twincloud.storage.contract import Gateway, Page, Twin, TwinKey, TwinModel
from twincloud.storage.definitions import DefinitionStore
from twincloud.storage.demands import unknown_twin
from twincloud.storage.fleet import gateway_of
from twincloud.storage.newest import NewestStore
from twincloud.storage.packing import unpack_binding
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import limited
from twincloud.storage.selection import REPORTED, TWIN_COLUMNS
from twincloud.storage.twin_records import unpack_document
from twincloud.storage.views import UNBOUND, UNBOUND_CATALOGUE, Facts, twin_view
from twincloud.twins.lifecycle import LISTED
from twincloud.twins.state import State, signals_of, state_hash
from twinmodel.errors import ConflictError, MissingError


class TwinStore(NewestStore, DefinitionStore):
    """Reads twins; see `Twins`."""

    def twins(
        self,
        tenant: str,
        *,
        site: str = "",
        state: str = "",
        chosen: Filter | None = None,
        limit: int = 100,
        token: str = "",
    ) -> Page[Twin]:
        """See `Twins.twins`; one that nobody has described is gone once no gateway binds it any more."""
        c = schema_twins.twin_records.c
        statement = _TWIN.where(c.tenant == tenant, c.state == state if state else c.state.in_(LISTED), _KNOWN)
        if site:
            statement = statement.where(c.site == site)
        if chosen is not None:
            statement = statement.where(chosen.sql(TWIN_COLUMNS))
        if token:
            statement = statement.where(tuple_(c.site, c.twin) > tuple_(*place_of(token, str, str)))
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(c.site, c.twin), limit)).mappings().all()
            page = page_of(rows, limit, lambda row: (row["site"], row["twin"]))
            return Page(self._views(connection, tenant, page.items), page.next_token)

    def twin(self, key: TwinKey) -> Twin:
        """See `Twins.twin`; a retired twin is still shown."""
        with self._database.read(key.tenant) as connection:
            return self._views(connection, key.tenant, [_row(connection, key)])[0]

    def twins_of(
        self, tenant: str, names: Sequence[tuple[str, str]]
    ) -> list[tuple[Twin, Gateway | None] | MissingError]:
        """See `Twins.twins_of`."""
        read_many = self._database.read_many
        with self._database.read(tenant) as connection:
            asked = [{"of_tenant": tenant, "of_site": site, "of_twin": twin} for site, twin in names]
            rows = {
                (row["site"], row["twin"]): row for row in _named(_ONE_TWIN, read_many(connection, _ONE_TWIN, asked))
            }
            served = [row for row in rows.values() if row["id"] is not None]
            targets = [{"of_gateway": row["gateway_id"], "of_target": row["twin"]} for row in served]
            directives = {
                (one["gateway_id"], one["target"]): one
                for one in _named(_DIRECTIVE, read_many(connection, _DIRECTIVE, targets))
            }
            digests = sorted({row["running_digest"] for row in served if row["running_digest"]})
            wanted = [{"of_tenant": tenant, "of_digest": digest} for digest in digests]
            models = {one["digest"]: one for one in _named(_MODEL, read_many(connection, _MODEL, wanted))}
            ids = [{"of_gateway": gateway_id} for gateway_id in sorted({row["gateway_id"] for row in served})]
            gateways = {one["id"]: gateway_of(one) for one in _named(_GATEWAY, read_many(connection, _GATEWAY, ids))}
            found: list[tuple[Twin, Gateway | None] | MissingError] = []
            for site, twin in names:
                row = rows.get((site, twin))
                if row is None:
                    found.append(unknown_twin(connection, TwinKey(tenant, site, twin)))
                    continue
                directive = directives.get((row["gateway_id"], row["twin"]))
                view = self._view(connection, row, directive, models.get(row["running_digest"]), None)
                found.append((view, gateways.get(row["gateway_id"])))
            return found

    def state_hash(self, key: TwinKey) -> str:
        """Hash of a twin's newest readings, the same on every store that holds the same items; raises UNKNOWN_TWIN."""
        with self._database.read(key.tenant) as connection:
            row = twin_row(connection, key)
            latest = self._newest(connection, row["gateway_id"], row["last_block"])
            catalogue = self._catalogue_by_id(connection, row["schema_id"])
            names = (catalogue.signals[signal].name for signal in signals_of(catalogue)[key.twin])
            return state_hash({name: latest[name] for name in names if name in latest})

    def _views(
        self, connection: Connection, tenant: str, rows: Sequence[RowMapping], state: State | None = None
    ) -> tuple[Twin, ...]:
        newest = self._newest_directives(connection, rows)
        digests = {row["running_digest"] for row in rows if row["running_digest"]}
        models = {
            row["digest"]: row
            for row in connection.execute(_MODELS, {"tenant": tenant, "digests": sorted(digests)}).mappings()
        } if digests else {}  # fmt: skip
        return tuple(
            self._view(
                connection, row, newest.get((row["gateway_id"], row["twin"])), models.get(row["running_digest"]), state
            )
            for row in rows
        )

    def _view(
        self,
        connection: Connection,
        row: Mapping[Any, Any],
        directive: Mapping[Any, Any] | None,
        model: Mapping[Any, Any] | None,
        state: State | None,
    ) -> Twin:
        document = unpack_document(row["said"], row["state"], row["run"], row["document"])
        definition = (
            self._definition_of(connection, row["tenant"])(document.definition) if document.definition else None
        )
        if row["id"] is None:
            key = TwinKey(row["tenant"], row["site"], row["twin"])
            changed = (row["record_revision"], row["record_updated_ns"])
            return twin_view(
                Facts(key, "", UNBOUND, UNBOUND_CATALOGUE, {}, NO_MODEL, "", *changed, document, definition, changed[0])
            )
        binding = unpack_binding(row["binding"])
        latest = self._newest(connection, row["gateway_id"], row["last_block"])
        commit_no, committed_ns = latest.changed.get(row["twin"], (0, 0))
        running = row["running_name"] or ""
        if model is not None:
            running = f"{model['name']}@{model['version']}"
        facts = Facts(
            key=TwinKey(row["tenant"], row["site"], row["twin"]),
            gateway=row["gateway"],
            binding=binding,
            catalogue=self._catalogue_by_id(connection, row["schema_id"]),
            state=latest if state is None else state,
            model=TwinModel(
                desired=directive["name"] if directive else binding.model,
                desired_digest=directive["digest"] if directive else "",
                running=running,
                running_digest=row["running_digest"] or "",
                tier=row["running_tier"] or "",
                directive=directive["id"] if directive else "",
                outcome=directive["outcome"] if directive else "",
                reason=directive["reason"] if directive else "",
                isolation=row["running_isolation"] or "",
            ),
            model_id=model["model_id"] if model is not None else "",
            revision=max(row["revision"], row["record_revision"], commit_no),
            updated_ns=max(row["updated_ns"], row["record_updated_ns"], committed_ns),
            document=document,
            definition=definition,
            record=row["record_revision"],
        )
        return twin_view(facts)

    def _newest_directives(
        self, connection: Connection, rows: Sequence[RowMapping]
    ) -> Mapping[tuple[int, str], RowMapping]:
        """The newest directive of each of these twins, by (gateway id, twin)."""
        return newest_directives(
            connection, [(row["gateway_id"], row["twin"]) for row in rows if row["id"] is not None]
        )


def newest_directives(
    connection: Connection, places: Collection[tuple[int, str]]
) -> Mapping[tuple[int, str], RowMapping]:
    """The newest directive for each of these targets, by (gateway id, target); none where there never was one."""
    if not places:
        return {}
    gateways, targets = ({place[n] for place in places} for n in (0, 1))
    found = connection.execute(_DIRECTIVES, {"gateways": sorted(gateways), "targets": sorted(targets)}).mappings()
    return {(row["gateway_id"], row["target"]): row for row in found}


def twin_row(connection: Connection, key: TwinKey) -> RowMapping:
    """The row of a twin that a gateway reports, with its state and what runs for it.

    Raises:
        MissingError: UNKNOWN_TWIN with the nearest name.
        ConflictError: TWIN_UNREPORTED for one that people have described and no gateway has told of.
    """
    row = _row(connection, key)
    if row["id"] is None:
        raise ConflictError("TWIN_UNREPORTED", f"no gateway has reported twin {key.twin!r} at site {key.site!r}")
    return row


def _row(connection: Connection, key: TwinKey) -> RowMapping:
    """The row of a twin, reported or not; raises MissingError UNKNOWN_TWIN with the nearest name."""
    asked = {"of_tenant": key.tenant, "of_site": key.site, "of_twin": key.twin}
    row = connection.execute(_ONE_TWIN, asked).mappings().first()
    if row is None:
        raise unknown_twin(connection, key)
    return row


def _named(statement: Select[Any], rows: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows of `read_many` by the names of their columns."""
    names = statement.selected_columns.keys()
    return [dict(zip(names, row, strict=True)) for row in rows]


NO_MODEL = TwinModel("", "", "", "", "", "", "", "")

_SAID = schema_twins.twin_records
_TWIN: Select[Any] = (
    select(
        _SAID.c.tenant,
        _SAID.c.site,
        _SAID.c.twin,
        _SAID.c.definition.label("said"),
        _SAID.c.state,
        _SAID.c.run,
        _SAID.c.document,
        _SAID.c.revision.label("record_revision"),
        _SAID.c.updated_ns.label("record_updated_ns"),
        t.twins.c.id,
        t.twins.c.gateway_id,
        t.twins.c.schema_id,
        t.twins.c.binding,
        t.twins.c.revision,
        t.twins.c.updated_ns,
        t.gateways.c.gateway,
        t.gateways.c.last_block,
        t.running.c.digest.label("running_digest"),
        t.running.c.name.label("running_name"),
        t.running.c.tier.label("running_tier"),
        t.running.c.isolation.label("running_isolation"),
    )
    .select_from(_SAID)
    .outerjoin(t.twins, REPORTED)
    .outerjoin(t.gateways, t.gateways.c.id == t.twins.c.gateway_id)
    .outerjoin(t.running, (t.running.c.gateway_id == t.twins.c.gateway_id) & (t.running.c.twin == t.twins.c.twin))
)
_ONE_TWIN = _TWIN.where(
    _SAID.c.tenant == bindparam("of_tenant"), _SAID.c.site == bindparam("of_site"), _SAID.c.twin == bindparam("of_twin")
)
_KNOWN = t.twins.c.id.is_(None) | t.twins.c.retired.is_(False) | (_SAID.c.revision > 0)
_MODELS = select(t.models.c.digest, t.models.c.name, t.models.c.version, t.models.c.model_id).where(
    t.models.c.tenant == bindparam("tenant"), t.models.c.digest.in_(bindparam("digests", expanding=True))
)
_MODEL = select(t.models.c.digest, t.models.c.name, t.models.c.version, t.models.c.model_id).where(
    t.models.c.tenant == bindparam("of_tenant"), t.models.c.digest == bindparam("of_digest")
)
_GATEWAY = select(t.gateways).where(t.gateways.c.id == bindparam("of_gateway"))
_OTHERS = t.directives.alias("others")
_DIRECTIVE = select(t.directives).where(
    t.directives.c.number
    == select(func.max(_OTHERS.c.number))
    .where(_OTHERS.c.gateway_id == bindparam("of_gateway"), _OTHERS.c.target == bindparam("of_target"))
    .scalar_subquery()
)
_LATEST = (
    select(func.max(t.directives.c.number).label("number"))
    .where(
        t.directives.c.gateway_id.in_(bindparam("gateways", expanding=True)),
        t.directives.c.target.in_(bindparam("targets", expanding=True)),
    )
    .group_by(t.directives.c.gateway_id, t.directives.c.target)
    .subquery()
)
_DIRECTIVES = select(t.directives).join(_LATEST, _LATEST.c.number == t.directives.c.number)
