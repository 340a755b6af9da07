"""Definitions of twins: published once, never changed; so what they resolve to is kept by heart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, tuple_

from twincloud.storage import schema_twins as t
from twincloud.storage.contract import Page
from twincloud.storage.held import Recent
from twincloud.storage.models import check_tenant
from twincloud.storage.packing import pack, unpack
from twincloud.storage.paging import page_of, place_of
from twincloud.storage.part import News, Part, limited, nearest, record
from twincloud.storage.records_twins import Definition
from twinmodel.definition.resolve import Resolved, order_of, resolve
from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import ConflictError, MissingError

HELD_MAX = 2_000
NAMES_MAX = 2_000


class DefinitionStore(Part):
    """Keeps definitions; see `TwinsOfPeople`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resolved: Recent[tuple[str, str], Resolved] = Recent(HELD_MAX)

    def publish_definitions(
        self, tenant: str, specs: Sequence[DefinitionSpec], *, by: str, now_ns: int
    ) -> list[Definition]:
        """See `TwinsOfPeople.publish_definitions`."""
        published = {}
        with self._database.write(tenant) as connection:
            check_tenant(connection, tenant)
            together = {spec.reference: spec for spec in specs}

            def find(reference: str) -> DefinitionSpec | None:
                return together.get(reference) or _found(connection, tenant, reference)

            for spec in order_of(specs):
                made = Definition(spec, resolve(spec, find), _digest(spec), now_ns, by)
                row = connection.execute(_ONE, _place(tenant, spec.reference)).mappings().first()
                if row is None:
                    self._put_definition(connection, tenant, made)
                elif row["digest"] == made.digest:
                    made = Definition(spec, made.resolved, made.digest, row["created_ns"], row["created_by"])
                else:
                    raise ConflictError(
                        "ALREADY_EXISTS",
                        f"definition {spec.reference} exists with another content",
                        hint="give the new content a new version",
                        digest=row["digest"],
                    )
                published[spec.reference] = made
        for reference, made in published.items():
            self._resolved.put((tenant, reference), made.resolved)
        return [published[spec.reference] for spec in specs]

    def definition(self, tenant: str, reference: str) -> Definition:
        """See `TwinsOfPeople.definition`."""
        with self._database.read(tenant) as connection:
            row = connection.execute(_ONE, _place(tenant, reference)).mappings().first()
            if row is None:
                raise _unknown(connection, tenant, reference)
            return self._read_definition(connection, row)

    def definitions(self, tenant: str, *, name: str = "", limit: int = 100, token: str = "") -> Page[Definition]:
        """See `TwinsOfPeople.definitions`."""
        c = t.definitions.c
        statement = select(t.definitions).where(c.tenant == tenant)
        if name:
            statement = statement.where(c.name == name)
        if token:
            statement = statement.where(tuple_(c.name, c.version) > tuple_(*place_of(token, str, str)))
        with self._database.read(tenant) as connection:
            rows = connection.execute(limited(statement.order_by(c.name, c.version), limit)).mappings().all()
            page = page_of(rows, limit, lambda row: (row["name"], row["version"]))
            return Page(tuple(self._read_definition(connection, row) for row in page.items), page.next_token)

    def _definition_of(self, connection: Connection, tenant: str) -> Callable[[str], Resolved]:
        """Function: `name@version` -> the resolved definition; raises UNKNOWN_DEFINITION."""

        def find(reference: str) -> Resolved:
            known = self._resolved.get((tenant, reference))
            if known is not None:
                return known
            spec = _found(connection, tenant, reference)
            if spec is None:
                raise _unknown(connection, tenant, reference)
            return self._resolved.put((tenant, reference), resolve(spec, lambda r: _found(connection, tenant, r)))

        return find

    def _read_definition(self, connection: Connection, row: RowMapping) -> Definition:
        spec = DefinitionSpec.model_validate(unpack(row["content"]))
        resolved = self._definition_of(connection, row["tenant"])(spec.reference)
        return Definition(spec, resolved, row["digest"], row["created_ns"], row["created_by"])

    def _put_definition(self, connection: Connection, tenant: str, made: Definition) -> None:
        spec = made.spec
        row = {
            "tenant": tenant, "name": spec.definition, "version": spec.version, "digest": made.digest,
            "content": pack(_plain(spec)), "created_ns": made.created_ns, "created_by": made.created_by,
        }  # fmt: skip
        connection.execute(insert(t.definitions), row)
        body: dict[str, object] = {"digest": made.digest, "by": made.created_by}
        record(connection, [News(tenant, "", "definition", spec.reference, made.created_ns, body)])


def _plain(spec: DefinitionSpec) -> dict[str, object]:
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _digest(spec: DefinitionSpec) -> str:
    text = json.dumps(_plain(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _place(tenant: str, reference: str) -> dict[str, str]:
    name, _, version = reference.partition("@")
    return {"tenant": tenant, "name": name, "version": version}


def _found(connection: Connection, tenant: str, reference: str) -> DefinitionSpec | None:
    content = connection.execute(_CONTENT, _place(tenant, reference)).scalar()
    return None if content is None else DefinitionSpec.model_validate(unpack(content))


def _unknown(connection: Connection, tenant: str, reference: str) -> MissingError:
    known = [f"{row.name}@{row.version}" for row in connection.execute(_NAMES, {"tenant": tenant})]
    return MissingError("UNKNOWN_DEFINITION", f"no definition {reference!r}{nearest(reference, known)}")


_AT = (
    (t.definitions.c.tenant == bindparam("tenant"))
    & (t.definitions.c.name == bindparam("name"))
    & (t.definitions.c.version == bindparam("version"))
)
_ONE = select(t.definitions).where(_AT)
_CONTENT = select(t.definitions.c.content).where(_AT)
_NAMES = (
    select(t.definitions.c.name, t.definitions.c.version)
    .where(t.definitions.c.tenant == bindparam("tenant"))
    .order_by(t.definitions.c.created_ns.desc())
    .limit(NAMES_MAX)
)
