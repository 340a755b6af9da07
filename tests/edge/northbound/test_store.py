"""The newest sample of every signal: the last one stays, an older one that comes late does not replace it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.edge.northbound.conftest import MEASURED, T0, Plant, catalogue_of
from twinedge.northbound.layout import layout_of, selector
from twinedge.northbound.store import NEVER, Latest
from twinmodel.quality import GOOD, QualityReason, bad, good, uncertain
from twinmodel.signal import Batch, Kind


def reading(plant, name):
    return plant.store.reading(plant.store.catalogue.by_name[name])


def test_a_signal_without_a_sample_is_absent_and_has_no_time(plant):
    found = reading(plant, "press.level")
    assert (found.quality, found.t_ns) == (NEVER, 0)


def test_values_of_all_kinds_come_back_in_their_own_type(plant):
    plant.tell(("press.level", 1.5), ("press.count", 2**60), ("press.on", True), ("press.name", "p1", uncertain(1)))
    assert [reading(plant, n).value for n in ("press.level", "press.count", "press.on", "press.name")] == [
        1.5,
        2**60,
        True,
        "p1",
    ]
    assert reading(plant, "press.on").value is True
    assert reading(plant, "press.name").quality == uncertain(QualityReason.OUT_OF_RANGE)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(allow_nan=False), st.integers(0, 2)), max_size=60))
def test_of_several_samples_in_one_batch_the_last_of_each_signal_stays(samples):
    plant = Plant(Latest())
    plant.use(catalogue_of(*[(f"d.p{n}", Kind.FLOAT, "") for n in range(5)]))
    ids, values, classes = zip(*samples, strict=True) if samples else ((), (), ())
    plant.store.see([Batch.of(Kind.FLOAT, ids, values, [c << 8 for c in classes], [T0] * len(ids))])
    for number in range(5):
        mine = [(v, c << 8) for i, v, c in samples if i == number]
        found = reading(plant, f"d.p{number}")
        assert (found.value, found.quality) == mine[-1] if mine else found.t_ns == 0


def test_what_was_kept_back_by_its_source_does_not_stand_in_place_of_a_newer_one(plant):
    plant.tell(("press.level", 2.0, GOOD, T0))
    plant.tell(("press.level", 1.0, good(QualityReason.BACKFILLED), T0 - 10**9))
    assert reading(plant, "press.level").value == 2.0
    plant.tell(("press.level", 3.0, good(QualityReason.BACKFILLED), T0 + 10**9))
    assert reading(plant, "press.level").value == 3.0


def test_a_clock_that_was_put_back_does_not_hide_what_is_measured_now(plant):
    plant.tell(("press.level", 2.0, GOOD, T0), ("press.level", 2.5, GOOD, T0 - 3600 * 10**9))
    assert reading(plant, "press.level").value == 2.5


def test_another_catalogue_keeps_the_samples_of_signals_of_the_same_name_and_kind(plant):
    plant.tell(("press.level", 2.0, bad(QualityReason.STALE)), ("press.count", 7), ("press.heat", 60.0))
    changed = [("press.new", Kind.FLOAT, ""), MEASURED[0], ("press.count", Kind.STRING, "")]
    plant.use(catalogue_of(*changed))
    assert (reading(plant, "press.level").value, reading(plant, "press.level").quality) == (2.0, bad(5))
    assert reading(plant, "press.count").t_ns == 0
    assert reading(plant, "press.new").t_ns == 0


def test_devices_and_twins_are_shown_and_what_the_agent_keeps_for_itself_is_not():
    layout = layout_of(catalogue_of())
    assert list(layout.devices) == ["press"]
    assert list(layout.twins["tank-1"]) == ["level"]
    roles = ["measured", "estimate", "sigma", "prediction", "innovation", "drift"]
    assert list(layout.twins["tank-1"]["level"]) == roles
    assert layout.by_id["tank-1/level#measured"] is layout.by_id["press.level"]
    assert not [name for name in layout.by_id if "lineage" in name or "@" in name]


def test_patterns_add_and_take_away():
    shown = selector(["press.*", "*#estimate", "!*.heat"])
    assert [shown(n) for n in ("press.level", "press.heat", "t/x#estimate", "t/x#sigma")] == [True, False, True, False]
    assert selector(["!*.heat"])("press.level")
