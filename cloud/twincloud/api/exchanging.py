"""Graphs of twins out of the store and into it, in the formats of others: blocking, one transaction a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from twincloud.storage.contract import Store, TwinKey
from twincloud.storage.records_twins import RelationKey, TwinChange
from twinmodel.definition import dtdl, dtdl_read, wot
from twinmodel.definition.exchange import Bundle, LinkSpec, Refusal, Tally, TwinSpec
from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import InputError, MissingError, TwinError

DEFINITIONS_MAX: Final = 2_000
TWINS_MAX: Final = 5_000
LINKS_MAX: Final = 50_000
PAGE: Final = 250

WRITERS: Final[Mapping[str, ModuleType]] = {"dtdl": dtdl, "wot": wot}
READERS: Final[Mapping[str, ModuleType]] = {"dtdl": dtdl_read, "wot": wot}


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import; `tally` holds every part of the source, as the store took it too."""

    bundle: Bundle
    tally: Tally


def export_graph(store: Store, tenant: str, form: str, site: str) -> tuple[Any, Tally]:
    """All definitions, and twins with their relationships, of one site or all, in a format.

    Raises:
        InputError: LIMIT_EXCEEDED, for more than one file should hold.
    """
    definitions = tuple(one.spec for one in _all(store.definitions, DEFINITIONS_MAX, "definitions", tenant))
    records = list(_all(store.twin_records, TWINS_MAX, "twins", tenant, site=site))
    links: list[LinkSpec] = []
    for record in records:
        for one in _all(store.relations, LINKS_MAX, "relationships", record.key):
            source, target = one.key.source, one.key.target
            links.append(
                LinkSpec(source.site, source.twin, one.key.name, target.site, target.twin, dict(one.properties))
            )
        _check(len(links), LINKS_MAX, "relationships")
    twins = []
    for record in records:
        said = record.document
        desired = {name: one.value for name, one in said.desired.items()}
        twins.append(
            TwinSpec(
                record.key.site, record.key.twin, said.definition, desired, str(said.state), said.run,
                dict(said.tags), dict(said.attributes),
            )
        )  # fmt: skip
    written: tuple[Any, Tally] = WRITERS[form].write(Bundle(definitions, tuple(twins), tuple(links)))
    return written


def _all(listing: Any, most: int, what: str, *args: object, **kwargs: object) -> Iterator[Any]:
    token, count = "", 0
    while True:
        page = listing(*args, limit=PAGE, token=token, **kwargs)
        count += len(page.items)
        _check(count, most, what)
        yield from page.items
        token = page.next_token
        if not token:
            return


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise InputError("LIMIT_EXCEEDED", f"more than {most} {what}", hint="export one site after the other")


def import_graph(
    store: Store, tenant: str, form: str, document: object, *, site: str, by: str, now_ns: int, dry: bool
) -> Imported:
    """Takes in what a document says; with `dry` nothing is changed.

    Definitions are published all or none; then each twin and each relationship is taken or refused by itself.

    Raises:
        InputError: VALUE_INVALID when the document is not of the format.
        ConflictError, MissingError: what the definitions are refused for, and nothing is changed then.
    """
    bundle, tally = READERS[form].read(document, site)
    if not dry:
        new = [spec for spec in bundle.definitions if not _is_there(store, tenant, spec)]
        if new:
            store.publish_definitions(tenant, new, by=by, now_ns=now_ns)
        _put_twins(store, tenant, bundle.twins, by, now_ns, tally)
        _put_links(store, tenant, bundle.links, by, now_ns, tally)
    return Imported(bundle, tally)


def _is_there(store: Store, tenant: str, spec: DefinitionSpec) -> bool:
    """Whether it is published already; one parent written as a list of one is the same."""
    try:
        known = store.definition(tenant, spec.reference).spec
    except MissingError:
        return False
    return known.model_copy(update={"extends": list(known.parents)}) == spec.model_copy(
        update={"extends": list(spec.parents)}
    )


def _put_twins(store: Store, tenant: str, twins: tuple[TwinSpec, ...], by: str, now_ns: int, tally: Tally) -> None:
    for at in range(0, len(twins), PAGE):
        some = twins[at : at + PAGE]
        changes = [TwinChange(TwinKey(tenant, t.site, t.twin), _body(t), by, "create") for t in some]
        answers = store.patch_twins(tenant, changes, now_ns)
        again = [n for n, a in enumerate(answers) if isinstance(a, TwinError) and a.reason == "ALREADY_EXISTS"]
        # A twin that is there already keeps its state and what the file does not say.
        patches = [
            TwinChange(changes[n].key, {k: v for k, v in changes[n].body.items() if k != "state"}, by) for n in again
        ]
        for n, answer in zip(again, store.patch_twins(tenant, patches, now_ns) if patches else (), strict=True):
            answers[n] = answer
        for twin, answer in zip(some, answers, strict=True):
            if isinstance(answer, TwinError):
                _take_back(tally, f"twins.{twin.site}/{twin.twin}", answer)


def _body(twin: TwinSpec) -> dict[str, Any]:
    body: dict[str, Any] = {"definition": twin.definition} if twin.definition else {}
    body |= {"desired": {name: {"value": value} for name, value in twin.desired.items()}} if twin.desired else {}
    body |= {"state": twin.state} if twin.state != "draft" else {}
    body |= {"run": twin.run} if twin.run != "edge" else {}
    body |= {"tags": dict(twin.tags)} if twin.tags else {}
    return body | ({"attributes": dict(twin.attributes)} if twin.attributes else {})


def _put_links(store: Store, tenant: str, links: tuple[LinkSpec, ...], by: str, now_ns: int, tally: Tally) -> None:
    for one in links:
        key = RelationKey(TwinKey(tenant, one.site, one.twin), one.type, TwinKey(tenant, one.target_site, one.target))
        try:
            store.relate(key, dict(one.properties), by=by, now_ns=now_ns)
        except TwinError as refused:
            if refused.reason == "STORE_FULL":
                raise
            place = f"relationships.{one.site}/{one.twin}.{one.type}.{one.target_site}/{one.target}"
            _take_back(tally, place, refused)


def _take_back(tally: Tally, place: str, refused: TwinError) -> None:
    """What was converted and the store refused counts as refused, not twice."""
    tally.carried.pop()
    tally.refused.append(Refusal(place, refused.reason, refused.message))
