"""What people say of twins, over every engine: conditions, order, lists, relationships, graphs, definitions."""

from __future__ import annotations

import threading

import pytest

from tests.contract.plant import KEY, NOW, TWIN, Edge
from twincloud.storage.contract import TwinKey
from twincloud.storage.records_twins import Demand, RelationKey, TwinChange, TwinRecord
from twinmodel.definition.schema import DefinitionSpec
from twinmodel.errors import ConflictError, MissingError, TwinError

PUMP = {
    "definition": "pump", "version": "1.0.0",
    "properties": {"flow": {"unit": "m3/h"}, "speed": {"unit": "1/min", "desired": True}},
    "relationships": {"feeds": {"target": "pump", "min": 1, "properties": {"length": {"unit": "m"}}}},
}  # fmt: skip


def twin(name: str) -> TwinKey:
    return TwinKey("acme", "mill", name)


@pytest.fixture
def described(store):
    """The store with the definition `pump@1.0.0` and drafts A to E of it, each of which feeds the next."""
    store.publish_definitions("acme", [DefinitionSpec.model_validate(PUMP)], by="ann", now_ns=NOW)
    changes = [TwinChange(twin(name), {"definition": "pump@1.0.0"}, "ann", "create") for name in "ABCDE"]
    assert all(isinstance(one, TwinRecord) for one in store.patch_twins("acme", changes, NOW))
    for source, target in zip("ABCDE", "BCDEA", strict=True):
        store.relate(RelationKey(twin(source), "feeds", twin(target)), {"length": 2}, by="ann", now_ns=NOW)
    return store


def reasons(answers) -> list[str]:
    return [one.reason if isinstance(one, TwinError) else "" for one in answers]


def test_a_twin_of_a_catalogue_gets_a_record_and_one_that_is_described_keeps_its_own(described):
    described.patch_twins("acme", [TwinChange(TWIN, {"tags": {"line": "3"}}, "ann", "create")], NOW)
    Edge().connect(described)
    assert described.twin_record(TWIN).document.tags == {"line": "3"}
    other = described.twin_record(twin("pump-1"))
    assert (other.revision, other.document.state, other.updated_by) == (0, "active", "")
    assert [t.key.twin for t in described.twins("acme").items] == [*"ABCDE", "pump-0", "pump-1"]
    assert described.twin(TWIN).gateway == KEY.gateway
    assert described.twin(twin("A")).gateway == ""


def test_changes_of_one_call_are_made_in_order_and_refused_alone(described):
    revision = described.twin_record(twin("A")).revision
    stale = Demand(frozenset({revision}), present=True)
    answers = described.patch_twins("acme", [
        TwinChange(twin("A"), {"tags": {"n": "1"}}, "bob", demand=stale),
        TwinChange(twin("A"), {"tags": {"n": "2"}}, "bob", demand=stale),
        TwinChange(twin("X"), {"tags": {"n": "2"}}, "bob"),
        TwinChange(twin("N"), {"state": "active"}, "bob", "create"),
        TwinChange(twin("N"), {"state": "retired"}, "bob"),
        TwinChange(twin("N"), None, "bob", "delete"),
        TwinChange(twin("N"), {}, "bob", "create", Demand(absent=True)),
        TwinChange(twin("B"), None, "bob", "delete"),
    ], NOW + 1)  # fmt: skip
    assert reasons(answers) == ["", "PRECONDITION_FAILED", "UNKNOWN_TWIN", "", "", "", "", "TWIN_IN_USE"]
    assert answers[1].facts["etag"] == f'"{answers[0].revision}"'
    assert described.twin_record(twin("A")) == answers[0]
    assert described.twin_record(twin("N")).document.state == "draft"
    again = described.patch_twins("acme", [TwinChange(twin("A"), {"tags": {"n": None}}, "bob")], NOW + 2)
    assert again[0].revision > answers[6].revision


def test_two_writers_with_the_same_etag_never_both_win(described):
    start = described.twin_record(twin("A")).revision
    answers = []

    def change(name: str) -> None:
        one = TwinChange(twin("A"), {"tags": {"by": name}}, name, demand=Demand(frozenset({start})))
        answers.extend(described.patch_twins("acme", [one], NOW))

    threads = [threading.Thread(target=change, args=(f"w{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reasons(answers)) == ["", *["PRECONDITION_FAILED"] * 5]


def test_a_twin_goes_into_service_with_its_relationships_and_keeps_them(described):
    described.unrelate(RelationKey(twin("A"), "feeds", twin("B")), now_ns=NOW)
    into = TwinChange(twin("A"), {"state": "commissioned"}, "ann")
    assert reasons(described.patch_twins("acme", [into], NOW)) == ["RELATION_INVALID"]
    described.relate(RelationKey(twin("A"), "feeds", twin("C")), {}, by="ann", now_ns=NOW)
    assert reasons(described.patch_twins("acme", [into], NOW)) == [""]
    with pytest.raises(ConflictError, match="at least 1"):
        described.unrelate(RelationKey(twin("A"), "feeds", twin("C")), now_ns=NOW)


def test_a_graph_is_searched_to_its_depth_and_its_number_of_twins_and_ends_in_circles(described):
    def names(graph):
        return [(node.key.twin, node.depth) for node in graph.nodes]

    short = described.graph(twin("A"), depth=2)
    assert (names(short), short.truncated) == ([("A", 0), ("B", 1), ("C", 2)], "depth")
    whole = described.graph(twin("A"), depth=10)
    assert ([name for name, _ in names(whole)], whole.truncated) == (list("ABCDE"), "")
    assert len(whole.relations) == 5
    assert whole.cycle[0] == whole.cycle[-1]
    back = described.graph(twin("A"), depth=1, direction="in")
    assert names(back) == [("A", 0), ("E", 1)]
    both = described.graph(twin("A"), depth=1, direction="both", nodes_max=2)
    assert (len(both.nodes), both.truncated) == (2, "nodes")
    with pytest.raises(MissingError):
        described.graph(twin("Z"))


def test_records_and_relationships_come_in_pages_and_of_one_tenant(described):
    described.create_tenant("other", NOW)
    described.patch_twins("other", [TwinChange(TwinKey("other", "mill", "A"), {}, "eve", "create")], NOW)
    page = described.twin_records("acme", limit=3)
    rest = described.twin_records("acme", limit=3, token=page.next_token)
    assert [one.key.twin for one in (*page.items, *rest.items)] == list("ABCDE")
    assert rest.next_token == ""
    assert [one.key.twin for one in described.twin_records("other").items] == ["A"]
    assert described.definitions("other").items == ()
    with pytest.raises(MissingError):
        described.definition("other", "pump@1.0.0")
    both = described.relations(twin("A"), direction="both", limit=1)
    last = described.relations(twin("A"), direction="both", limit=1, token=both.next_token)
    assert {one.key.source.twin for one in (*both.items, *last.items)} == {"A", "E"}


def test_what_changed_is_told_by_one_event_for_a_site(described):
    after = described.last_event()
    described.patch_twins("acme", [TwinChange(twin(n), {"tags": {"x": "1"}}, "ann") for n in "ABX"], NOW)
    told = described.events("acme", after=after)
    assert [(one.kind, one.site, one.body["twins"]) for one in told] == [("twin", "mill", ["A", "B"])]


def test_a_definition_is_found_as_it_was_published(described):
    before = described.definition("acme", "pump@1.0.0")
    assert before.spec == DefinitionSpec.model_validate(PUMP)
    assert [one.digest for one in described.definitions("acme").items] == [before.digest]
    with pytest.raises(MissingError, match=r"did you mean .pump@1\.0\.0"):
        described.definition("acme", "pumb@1.0.0")
