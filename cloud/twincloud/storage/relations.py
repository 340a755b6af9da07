"""Relationships between twins: typed by the definitions, searched breadth first within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, func, insert, or_, select, tuple_, update

from twincloud.storage import schema_twins as t
from twincloud.storage.contract import Page, TwinKey
from twincloud.storage.definitions import DefinitionStore
from twincloud.storage.demands import check_demand, unknown_twin
from twincloud.storage.packing import pack, unpack
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import NUMBERS, News, limited, record, take_numbers
from twincloud.storage.records_twins import ANYTHING, Demand, Direction, Graph, Node, Relation, RelationKey
from twincloud.twins.document import DefinitionOf, desired_value
from twincloud.twins.graph import first_cycle
from twincloud.twins.lifecycle import State, check_changeable
from twinmodel.definition.resolve import Resolved
from twinmodel.definition.schema import RELATED_MAX, RelationshipSpec
from twinmodel.errors import ConflictError, InputError, MissingError
from twinmodel.profile.document import nearest

DEPTH_MAX = 10
NODES_MAX = 1_000
EDGES_MAX = 10_000
CHECKED_MAX = 1_000
_AT_ONCE = 100


class RelationStore(DefinitionStore):
    """Keeps relationships; see `TwinsOfPeople`."""

    def relate(
        self, key: RelationKey, properties: dict[str, Any], *, by: str, now_ns: int, demand: Demand = ANYTHING
    ) -> Relation:
        """See `TwinsOfPeople.relate`."""
        tenant = key.source.tenant
        with self._database.write(tenant) as connection:
            # First: on every replica, whoever holds the counter is the only one who changes relationships.
            revision = take_numbers(connection, NUMBERS, 1)
            definition_of = self._definition_of(connection, tenant)
            spec, described = _checked(connection, key, definition_of)
            said = _properties(key.name, spec, properties)
            old = connection.execute(_ONE, _place(key)).mappings().first()
            check_demand(demand, None if old is None else old["revision"], f"the relationship {_text(key)}")
            changed = {"properties": pack(said), "revision": revision, "updated_ns": now_ns, "updated_by": by}
            if old is None:
                most = RELATED_MAX if spec.most is None else spec.most
                if _count(connection, key.source, key.name) >= most:
                    text = f"twin {key.source.twin!r} {key.name} {most} twins already, as many as {described} allows"
                    raise ConflictError("RELATION_INVALID", text, hint="remove one first")
                connection.execute(insert(t.relations), {**_row(key), **changed, "created_ns": now_ns})
            else:
                connection.execute(_CHANGE, {**_place(key), **changed})
            record(connection, _news(key, now_ns))
        created_ns = now_ns if old is None else old["created_ns"]
        return Relation(key, said, revision, created_ns, now_ns, by)

    def unrelate(self, key: RelationKey, *, now_ns: int, demand: Demand = ANYTHING) -> None:
        """See `TwinsOfPeople.unrelate`."""
        tenant = key.source.tenant
        with self._database.write(tenant) as connection:
            take_numbers(connection, NUMBERS, 1)
            old = connection.execute(_ONE, _place(key)).mappings().first()
            check_demand(demand, None if old is None else old["revision"], f"the relationship {_text(key)}")
            if old is None:
                raise _missing(key)
            source = _node(connection, key.source)
            check_changeable(key.source.twin, State(source["state"]), "relationships")
            if source["definition"] and source["state"] != State.DRAFT:
                known = self._definition_of(connection, tenant)(source["definition"]).relationships
                least = known[key.name].least if key.name in known else 0
                if _count(connection, key.source, key.name) <= least:
                    text = f"twin {key.source.twin!r} must {key.name} at least {least}, by {source['definition']}"
                    raise ConflictError("RELATION_INVALID", text, hint="add another first, or make the twin a draft")
            connection.execute(_REMOVE, _place(key))
            record(connection, _news(key, now_ns))

    def relation(self, key: RelationKey) -> Relation:
        """See `TwinsOfPeople.relation`."""
        with self._database.read(key.source.tenant) as connection:
            row = connection.execute(_ONE, _place(key)).mappings().first()
        if row is None:
            raise _missing(key)
        return _relation(row)

    def relations(
        self, key: TwinKey, *, direction: Direction = "out", name: str = "", limit: int = 100, token: str = ""
    ) -> Page[Relation]:
        """See `TwinsOfPeople.relations`."""
        c = t.relations.c
        outward = and_(c.site == key.site, c.twin == key.twin)
        inward = and_(c.target_site == key.site, c.target == key.twin)
        wanted = {"out": outward, "in": inward, "both": or_(outward, inward)}[direction]
        statement = select(t.relations).where(c.tenant == key.tenant, wanted)
        order = (c.site, c.twin, c.name, c.target_site, c.target)
        if name:
            statement = statement.where(c.name == name)
        if token:
            statement = statement.where(tuple_(*order) > tuple_(*place_of(token, str, str, str, str, str)))
        with self._database.read(key.tenant) as connection:
            _node(connection, key)
            rows = connection.execute(limited(statement.order_by(*order), limit)).mappings().all()
        return page_of([_relation(row) for row in rows], limit, lambda r: tuple(_row(r.key).values())[1:])

    def graph(
        self, key: TwinKey, *, name: str = "", depth: int = 1, direction: Direction = "out", nodes_max: int = 200
    ) -> Graph:
        """See `TwinsOfPeople.graph`; each generation is one look at the table."""
        depth, nodes_max = min(depth, DEPTH_MAX), min(nodes_max, NODES_MAX)
        with self._database.read(key.tenant) as connection:
            _node(connection, key)
            found: dict[TwinKey, int] = {key: 0}
            edges: dict[RelationKey, Relation] = {}
            front, truncated = [key], ""
            for generation in range(1, depth + 2):
                reached = list(_around(connection, front, direction, name))
                if generation > depth:
                    beyond = any({one.key.source, one.key.target} - found.keys() for one in reached)
                    truncated = truncated or ("depth" if beyond else "")
                front = []
                for one in reached:
                    ends = [end for end in (one.key.source, one.key.target) if end not in found]
                    if ends and (generation > depth or len(found) >= nodes_max):
                        truncated = truncated or "nodes"
                        continue
                    for end in ends:
                        found[end] = generation
                        front.append(end)
                    if len(edges) >= EDGES_MAX:
                        truncated = "nodes"
                        break
                    edges[one.key] = one
                if not front or truncated == "nodes":
                    break
            rows = _nodes(connection, key.tenant, list(found))
        nodes = tuple(Node(twin, level, *rows.get(twin, ("", ""))) for twin, level in found.items())
        cycle = first_cycle((one.source, one.target) for one in edges)
        return Graph(key, nodes, tuple(edges.values()), truncated, cycle)


def check_complete(connection: Connection, key: TwinKey, definition: Resolved) -> None:
    """Lets a twin go into service; raises ConflictError RELATION_INVALID when relationships are missing."""
    for name, spec in definition.relationships.items():
        if spec.least and (count := _count(connection, key, name)) < spec.least:
            text = (
                f"twin {key.twin!r} has {count} of {spec.least} relationships {name!r} that {definition.reference} asks"
            )
            hint = f"keep it a draft and add them: `twinctl twin relate {key.twin} {name} TARGET`"
            raise ConflictError("RELATION_INVALID", text, hint=hint)


def check_redefined(
    connection: Connection, key: TwinKey, definition: Resolved | None, definition_of: DefinitionOf
) -> None:
    """Lets a twin get another definition; raises ConflictError RELATION_INVALID when a relationship would not fit."""
    new = definition.reference if definition is not None else "none"
    hint = "remove the relationship first"
    for row in connection.execute(_TYPES, _twin(key)):
        if definition is None or row.name not in definition.relationships:
            text = f"twin {key.twin!r} has a relationship {row.name!r}, which the definition {new} does not know"
            raise ConflictError("RELATION_INVALID", text, hint=hint)
    for row in connection.execute(_INCOMING, {**_twin(key), "limit": CHECKED_MAX}):
        known = definition_of(row.definition).relationships if row.definition else {}
        spec = known.get(row.name)
        if spec is not None and spec.target and (definition is None or not definition.is_a(spec.target)):
            text = f"{row.site}/{row.twin} {row.name} {key.twin!r}, which must be a {spec.target}; {new} is none"
            raise ConflictError("RELATION_INVALID", text, hint=hint)


def check_unrelated(connection: Connection, key: TwinKey) -> None:
    """Lets a twin be deleted; its own relationships go with it, those of others to it must be gone already."""
    row = connection.execute(_INCOMING, {**_twin(key), "limit": 1}).first()
    if row is not None:
        text = f"{row.site}/{row.twin} has a relationship {row.name!r} to twin {key.twin!r}"
        raise ConflictError("TWIN_IN_USE", text, hint="remove the relationship first")
    connection.execute(_REMOVE_ALL, _twin(key))


def _checked(connection: Connection, key: RelationKey, definition_of: DefinitionOf) -> tuple[RelationshipSpec, str]:
    """The type of a relationship and the definition it is of, when both twins allow it."""
    source, target = _node(connection, key.source), _node(connection, key.target)
    check_changeable(key.source.twin, State(source["state"]), "relationships")
    check_changeable(key.target.twin, State(target["state"]), "relationships")
    described = source["definition"]
    if not described:
        hint = "publish one with `twinctl twin define` and give it with `twinctl twin set --definition`"
        raise ConflictError("RELATION_INVALID", f"twin {key.source.twin!r} has no definition", hint=hint)
    known = definition_of(described).relationships
    spec = known.get(key.name)
    if spec is None:
        guess = nearest(key.name, known)
        hint = f"did you mean `{guess}`?" if guess else f"{described} knows {', '.join(known) or 'none'}"
        raise ConflictError("RELATION_INVALID", f"{described} has no relationship {key.name!r}", hint=hint)
    fits = definition_of(target["definition"]).is_a(spec.target) if target["definition"] else not spec.target
    if not fits:
        found = target["definition"] or "undefined"
        text = f"{key.name!r} of {described} leads to a {spec.target}; {key.target.twin!r} is {found}"
        raise ConflictError("RELATION_INVALID", text, hint="relate it to a twin of that definition")
    return spec, described


def _properties(name: str, spec: RelationshipSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    said = {}
    for prop, value in given.items():
        known = spec.properties.get(prop)
        if known is None:
            guess = nearest(prop, spec.properties)
            hint = f"did you mean `{guess}`?" if guess else f"{name} knows {', '.join(spec.properties) or 'none'}"
            raise InputError("REQUEST_INVALID", f"properties.{prop[:64]}: {name!r} has none such", hint=hint)
        said[prop] = desired_value(f"properties.{prop}", known, value, None)
    return said


def _around(connection: Connection, front: Sequence[TwinKey], direction: Direction, name: str) -> Iterable[Relation]:
    """Relationships of some twins, at most EDGES_MAX."""
    c = t.relations.c
    ends = {"out": [(c.site, c.twin)], "in": [(c.target_site, c.target)]}
    taken = 0
    for columns in ends.get(direction) or [*ends["out"], *ends["in"]]:
        for at in range(0, len(front), _AT_ONCE):
            some = [(key.site, key.twin) for key in front[at : at + _AT_ONCE]]
            statement = select(t.relations).where(c.tenant == front[0].tenant, tuple_(*columns).in_(some))
            if name:
                statement = statement.where(c.name == name)
            order = (c.site, c.twin, c.name, c.target_site, c.target)
            for row in connection.execute(statement.order_by(*order).limit(EDGES_MAX + 1 - taken)).mappings():
                taken += 1
                yield _relation(row)


def _nodes(connection: Connection, tenant: str, keys: Sequence[TwinKey]) -> dict[TwinKey, tuple[str, str]]:
    found = {}
    for at in range(0, len(keys), _AT_ONCE):
        some = [(key.site, key.twin) for key in keys[at : at + _AT_ONCE]]
        statement = _NODES.where(_R.tenant == tenant, tuple_(_R.site, _R.twin).in_(some))
        for row in connection.execute(statement):
            found[TwinKey(tenant, row.site, row.twin)] = (row.definition, row.state)
    return found


def _node(connection: Connection, key: TwinKey) -> RowMapping:
    row = connection.execute(_NODE, _twin(key)).mappings().first()
    if row is None:
        raise unknown_twin(connection, key)
    return row


def _count(connection: Connection, source: TwinKey, name: str) -> int:
    return int(connection.execute(_COUNT, {**_twin(source), "of_name": name}).scalar_one())


def _relation(row: RowMapping) -> Relation:
    source = TwinKey(row["tenant"], row["site"], row["twin"])
    key = RelationKey(source, row["name"], TwinKey(row["tenant"], row["target_site"], row["target"]))
    return Relation(
        key, unpack(row["properties"]), row["revision"], row["created_ns"], row["updated_ns"], row["updated_by"]
    )


def _news(key: RelationKey, now_ns: int) -> list[News]:
    body: dict[str, object] = {"relationship": key.name, "target": f"{key.target.site}/{key.target.twin}"}
    return [News(key.source.tenant, key.source.site, "twin", key.source.twin, now_ns, body)]


def _missing(key: RelationKey) -> MissingError:
    return MissingError(
        "NOT_FOUND", f"no relationship {_text(key)}", hint=f"see `twinctl twin graph {key.source.twin}`"
    )


def _text(key: RelationKey) -> str:
    return f"{key.source.site}/{key.source.twin} {key.name} {key.target.site}/{key.target.twin}"


def _row(key: RelationKey) -> dict[str, str]:
    return {
        "tenant": key.source.tenant, "site": key.source.site, "twin": key.source.twin, "name": key.name,
        "target_site": key.target.site, "target": key.target.twin,
    }  # fmt: skip


def _place(key: RelationKey) -> dict[str, str]:
    return {f"of_{column}": value for column, value in _row(key).items()}


def _twin(key: TwinKey) -> dict[str, str]:
    return {"of_tenant": key.tenant, "of_site": key.site, "of_twin": key.twin}


_C = t.relations.c
_R = t.twin_records.c
_SOURCE = and_(_C.tenant == bindparam("of_tenant"), _C.site == bindparam("of_site"), _C.twin == bindparam("of_twin"))
_AT = and_(
    _SOURCE,
    _C.name == bindparam("of_name"),
    _C.target_site == bindparam("of_target_site"),
    _C.target == bindparam("of_target"),
)
_ONE = select(t.relations).where(_AT)
_CHANGE = update(t.relations).where(_AT)
_REMOVE = delete(t.relations).where(_AT)
_REMOVE_ALL = delete(t.relations).where(_SOURCE)
_COUNT = select(func.count()).select_from(t.relations).where(_SOURCE, _C.name == bindparam("of_name"))
_TYPES = select(_C.name).where(_SOURCE).distinct()
_INCOMING = (
    select(_C.site, _C.twin, _C.name, _R.definition)
    .join(t.twin_records, and_(_R.tenant == _C.tenant, _R.site == _C.site, _R.twin == _C.twin))
    .where(
        _C.tenant == bindparam("of_tenant"), _C.target_site == bindparam("of_site"), _C.target == bindparam("of_twin")
    )
    .limit(bindparam("limit"))
)
_NODES = select(_R.site, _R.twin, _R.definition, _R.state)
_NODE = _NODES.where(
    _R.tenant == bindparam("of_tenant"), _R.site == bindparam("of_site"), _R.twin == bindparam("of_twin")
)
