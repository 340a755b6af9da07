"""The part of the store contract for what people say of twins: definitions, records and relationships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twincloud.storage.records import Page, TwinKey
from twincloud.storage.records_twins import (
    ANYTHING,
    Definition,
    Demand,
    Direction,
    Graph,
    Relation,
    RelationKey,
    TwinChange,
    TwinRecord,
)
from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import TwinError


class TwinsOfPeople(Protocol):
    """What people say of twins."""

    def publish_definitions(
        self, tenant: str, specs: Sequence[DefinitionSpec], *, by: str, now_ns: int
    ) -> list[Definition]:
        """Publishes versions of definitions, all or none; they may extend one another.

        The same content again is no error. Raises ALREADY_EXISTS (another content), UNKNOWN_DEFINITION,
        DEFINITION_CYCLE, DEFINITION_CONFLICT, LIMIT_EXCEEDED, NOT_FOUND (the tenant).
        """
        ...

    def definition(self, tenant: str, reference: str) -> Definition:
        """`name@version`; raises UNKNOWN_DEFINITION with the nearest name."""
        ...

    def definitions(self, tenant: str, *, name: str = "", limit: int = 100, token: str = "") -> Page[Definition]:
        """Definitions by name and version."""
        ...

    def patch_twins(
        self, tenant: str, changes: Sequence[TwinChange], now_ns: int
    ) -> list[TwinRecord | TwinError | None]:
        """Changes records in one durable transaction, one after the other.

        An answer per change, in their order: the record as it is then, None where it was deleted, or the error of
        that change alone (PRECONDITION_FAILED with the fact `etag`, and others), which leaves the rest as it is.
        Raises StorageError when nothing was changed.
        """
        ...

    def patch_twin(self, change: TwinChange, now_ns: int) -> TwinRecord | None:
        """The same for one change; raises its error."""
        ...

    def twin_record(self, key: TwinKey) -> TwinRecord:
        """What people say of a twin; raises UNKNOWN_TWIN."""
        ...

    def twin_records(
        self, tenant: str, *, site: str = "", state: str = "", run: str = "", limit: int = 100, token: str = ""
    ) -> Page[TwinRecord]:
        """Records by site and name, those of retired twins only where the state is asked for."""
        ...

    def relate(
        self, key: RelationKey, properties: dict[str, Any], *, by: str, now_ns: int, demand: Demand = ANYTHING
    ) -> Relation:
        """Makes a relationship, or says other things of it.

        Raises UNKNOWN_TWIN, RELATION_INVALID (type, target, number, properties), TWIN_OUT_OF_SERVICE and
        PRECONDITION_FAILED.
        """
        ...

    def unrelate(self, key: RelationKey, *, now_ns: int, demand: Demand = ANYTHING) -> None:
        """Removes a relationship; raises NOT_FOUND, RELATION_INVALID (too few are left), PRECONDITION_FAILED."""
        ...

    def relation(self, key: RelationKey) -> Relation:
        """One relationship; raises NOT_FOUND."""
        ...

    def relations(
        self, key: TwinKey, *, direction: Direction = "out", name: str = "", limit: int = 100, token: str = ""
    ) -> Page[Relation]:
        """Relationships of a twin; raises UNKNOWN_TWIN."""
        ...

    def graph(
        self, key: TwinKey, *, name: str = "", depth: int = 1, direction: Direction = "out", nodes_max: int = 200
    ) -> Graph:
        """What is found from a twin on, breadth first; each twin once, so that circles end. Raises UNKNOWN_TWIN."""
        ...
