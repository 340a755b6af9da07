"""The Sparkplug session: births, aliases, sequence numbers, deaths and requests of births, without a broker."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge.drivers.sparkplug_line import METRICS, Line, qualities, values
from tests.edge.drivers.sparkplug_node import T0_MS, Node, add
from twinedge.drivers.link import Columns
from twinedge.drivers.sparkplug import BIRTHS_NS, NAMESPACE, REBIRTH
from twinedge.drivers.sparkplug_metric import PAYLOAD_MAX
from twinmodel.quality import GOOD, QualityReason, bad, good, uncertain
from twinsync.v1.sparkplug_pb2 import SparkplugPayload

STALE, DECODE, ABSENT = (bad(QualityReason[r]) for r in ("STALE", "DECODE", "ABSENT"))
S_NS = 10**9


@pytest.fixture
def line(assign):
    return Line(assign)


def test_births_become_values_and_aliases_carry_the_data(line):
    node = Node(METRICS)
    assert values(line.hear(*node.births())) == {0: 21.5, 1: -5, 2: 4.5, 3: True}
    rows = line.hear(
        node.data({"alias": 1, "datatype": "Double", "value": 22.25}),
        node.data({"alias": 10, "datatype": "Float", "value": 5.5, "t_ms": T0_MS + 7}, device="pump"),
    )
    assert values(rows) == {0: 22.25, 2: 5.5}
    assert rows[1][3] == (T0_MS + 7) * 10**6
    assert rows[0][3] == (T0_MS + 3000) * 10**6, "a metric without a time has that of its message"
    assert line.links[0].errors == line.links[1].errors == 0


def test_every_node_is_asked_for_its_birth_at_a_new_connection(line):
    said = line.asked()
    assert [s.topic for s in said] == ["spBv1.0/G/NCMD/N"]
    payload = SparkplugPayload.FromString(said[0].payload)
    assert [(m.name.decode(), m.boolean_value, m.datatype) for m in payload.metrics] == [(REBIRTH, True, 11)]
    assert (said[0].qos, said[0].retain) == (0, False)
    assert line.asked() == []


def test_data_before_a_birth_is_not_taken_and_a_birth_is_asked_for(line):
    node = Node(METRICS)
    births = node.births()
    line.asked()
    line.clock.advance(6 * S_NS)
    rows = line.hear(node.data({"name": "Env/Temp", "datatype": "Double", "value": 1.0}))
    assert qualities(rows) == dict.fromkeys(range(4), STALE)
    assert len(line.asked()) == 1
    assert values(line.hear(*births)) == {0: 21.5, 1: -5, 2: 4.5, 3: True}


def test_requests_of_births_grow_rarer_while_nobody_answers(line):
    node = Node(METRICS)
    node.births()
    asked_at = []
    for second in range(400):
        line.hear(node.data({"alias": 1, "datatype": "Double", "value": 1.0}))
        asked_at += [second] * len(line.asked())
        line.clock.advance(S_NS)
    assert asked_at == [0, 5, 15, 35, 75, 155, 315]
    assert sum(row[2] == STALE for row in line.rows) == 4, "each signal is stale once"


def test_rebirth_switched_off_asks_nobody_and_waits_for_the_nodes_own_birth(assign):
    line, node = Line(assign, rebirth=False), Node(METRICS)
    births = node.births()
    line.hear(node.data({"alias": 1, "datatype": "Double", "value": 1.0}))
    line.clock.advance(60 * S_NS)
    assert line.asked() == []
    assert values(line.hear(*births))[0] == 21.5


def test_sequence_gap_makes_signals_stale_until_the_birth_and_is_declared(line):
    node = Node(METRICS)
    line.hear(*node.births())
    line.asked()
    good_ns = line.clock.wall_ns()
    line.clock.advance(6 * S_NS)
    node.data({"alias": 1, "datatype": "Double", "value": 1.0})  # lost on its way
    rows = line.hear(node.data({"alias": 1, "datatype": "Double", "value": 2.0}))
    assert qualities(rows) == dict.fromkeys(range(4), STALE)
    assert "sequence number 3 follows 1" in line.links[0].last_error
    assert len(line.asked()) == 1
    line.clock.advance(S_NS)
    assert len(values(line.hear(*node.births()))) == 4
    assert [(h.device, h.from_ns, h.to_ns) for h in line.host.taken()] == [
        (name, good_ns, line.clock.wall_ns()) for name in ("n", "p")
    ]
    assert line.host.taken() == []


def test_sequence_numbers_wrap_after_255(line):
    node = Node(METRICS)
    line.hear(*node.births())
    for n in range(600):
        assert values(line.hear(node.data({"alias": 1, "datatype": "Double", "value": float(n)}))) == {0: float(n)}


def test_death_of_the_node_makes_all_its_devices_stale_and_a_late_will_does_not(line):
    node = Node(METRICS)
    line.hear(*node.births())
    line.hear(*node.births())
    assert line.hear(node.ndeath(bd_seq=0)) == []
    assert qualities(line.hear(node.ndeath())) == dict.fromkeys(range(4), STALE)
    assert line.hear(node.ndeath()) == []
    assert len(values(line.hear(*node.births()))) == 4


def test_death_of_a_device_leaves_its_node_alone(line):
    node = Node(METRICS)
    line.hear(*node.births())
    assert qualities(line.hear(node.ddeath("pump"))) == {2: STALE, 3: STALE}
    assert values(line.hear(node.data({"alias": 1, "datatype": "Double", "value": 9.0}))) == {0: 9.0}
    assert values(line.hear(node.dbirth("pump"))) == {2: 4.5, 3: True}


def test_device_whose_birth_does_not_follow_its_nodes_is_stale_after_a_while(line):
    node = Node(METRICS)
    line.hear(*node.births())
    assert 2 not in qualities(line.hear(node.nbirth()))
    line.clock.advance(BIRTHS_NS)
    assert line.host.due_ns() <= line.clock.boot_ns()
    columns = Columns()
    line.host.late(line.now(), columns)
    assert qualities(line.rows_of(columns)) == {2: STALE, 3: STALE}
    assert line.host.due_ns() is None or line.host.due_ns() > line.clock.boot_ns()


def test_unknown_alias_takes_nothing_of_its_message(line):
    node = Node(METRICS)
    line.hear(*node.births())
    rows = line.hear(
        node.data({"alias": 1, "datatype": "Double", "value": 3.0}, {"alias": 77, "datatype": "Double", "value": 4.0})
    )
    assert values(rows) == {}
    assert "alias 77" in line.links[0].last_error


def test_alias_of_one_device_is_no_alias_of_another(line):
    node = Node(METRICS)
    line.hear(*node.births())
    assert values(line.hear(node.data({"alias": 1, "datatype": "Double", "value": 3.0}, device="pump"))) == {}


def test_birth_that_gives_aliases_and_types_another_meaning_is_followed(line):
    node = Node(METRICS)
    line.hear(*node.births())
    node.metrics = METRICS | {"": [("Env/Temp", "Float", 1.5, 2), ("Count", "Int64", 7, 1)]}
    assert values(line.hear(*node.births()))[1] == 7
    rows = line.hear(
        node.data({"alias": 1, "datatype": "Int64", "value": 8}, {"alias": 2, "datatype": "Float", "value": 2.5})
    )
    assert values(rows) == {0: 2.5, 1: 8}


def test_type_that_no_longer_fits_the_point_is_bad_and_the_rest_is_read(line):
    node = Node(METRICS | {"": [("Env/Temp", "String", "warm", 1), ("Count", "Int32", 3, 2)]})
    rows = line.hear(*node.births())
    assert qualities(rows)[0] == DECODE
    assert values(rows)[1] == 3


def test_point_that_the_birth_lacks_is_bad_and_named(line):
    node = Node(METRICS | {"": [("Env/Temp", "Double", 1.0, 1)]})
    assert qualities(line.hear(*node.births()))[1] == DECODE
    assert "'Count'" in line.links[0].last_error


def test_historical_values_keep_their_time_and_say_so(line):
    node = Node(METRICS)
    line.hear(*node.births())
    old = {"alias": 1, "datatype": "Double", "value": 3.0, "t_ms": T0_MS - 3_600_000, "historical": True}
    assert line.hear(node.data(old)) == [
        (0, 3.0, good(QualityReason.BACKFILLED), (T0_MS - 3_600_000) * 10**6),
    ]


def test_null_is_absent_and_no_value_at_all_is_not(line):
    node = Node(METRICS)
    line.hear(*node.births())
    rows = line.hear(
        node.data({"alias": 1, "datatype": "Double", "value": None}, {"alias": 2, "datatype": "Int32", "value": ...})
    )
    assert qualities(rows) == {0: ABSENT, 1: DECODE}


@pytest.mark.parametrize("t_ms", [0, 1000, 2**63])
def test_source_with_a_clock_of_1970_is_stamped_at_arrival_and_doubted(line, t_ms):
    node = Node(METRICS)
    line.hear(*node.births())
    message = node.data({"alias": 1, "datatype": "Double", "value": 3.0, "t_ms": t_ms})
    payload = SparkplugPayload.FromString(message[1])
    payload.timestamp = 0
    rows = line.hear((message[0], payload.SerializeToString()))
    assert rows == [(0, 3.0, uncertain(QualityReason.CLOCK), line.clock.wall_ns())]


@pytest.mark.parametrize("datatype", ["DataSet", "Template", "Bytes", "Int8Array"])
def test_types_that_cannot_be_a_signal_are_refused_by_name(line, datatype):
    node = Node(METRICS | {"": [("Env/Temp", datatype, b"\x01\x02", 1), ("Count", "Int32", 3, 2)]})
    rows = line.hear(*node.births())
    assert qualities(rows) == {0: DECODE, 1: GOOD, 2: GOOD, 3: GOOD}
    assert datatype in line.links[0].last_error


def test_quality_property_of_a_metric_is_carried(line):
    node = Node(METRICS)
    line.hear(*node.births())
    found = []
    for code in (192, 0, 500):
        payload = node.payload()
        properties = add(payload, None, "Double", 1.0, alias=1).properties
        properties.keys.append(b"Quality")
        properties.values.add(type=3, int_value=code)
        found += line.hear((node.topic("NDATA"), payload.SerializeToString()))
    assert [row[2] for row in found] == [GOOD, bad(QualityReason.DEVICE_FAULT), STALE]


def test_name_that_is_no_text_spoils_its_metric_alone(line):
    node = Node(METRICS | {"": [*METRICS[""], (b"\xff\xfe", "Double", 1.0, 99)]})
    assert values(line.hear(*node.births())) == {0: 21.5, 1: -5, 2: 4.5, 3: True}
    assert "not UTF-8" in line.links[0].last_error


def test_oversized_and_broken_messages_lose_the_session_and_a_birth_mends_it(line):
    node = Node(METRICS)
    line.hear(*node.births())
    assert qualities(line.hear((node.topic("NDATA"), b"\x0a\xff"))) == dict.fromkeys(range(4), STALE)
    line.hear(*node.births())
    line.hear((node.topic("NDATA"), b""), size=PAYLOAD_MAX + 1)
    assert "LIMIT_EXCEEDED" in line.links[1].last_error or "cannot be read" in line.links[1].last_error
    assert len(values(line.hear(*node.births()))) == 4


def test_retained_births_and_topics_of_others_are_left_alone(line):
    node = Node(METRICS)
    assert line.hear(node.nbirth(), retain=True) == []
    for topic in ("spBv1.0/G/NDATA", "spBv1.0/X/NDATA/N", "spBv1.0/G/NCMD/N", "spBv1.0/G/DDATA/N", "spBv1.0/STATE/h"):
        assert line.hear((topic, b"")) == []
    assert not line.host.wants("plants/tank")


def test_primary_host_says_that_it_is_there_and_leaves_a_will(assign):
    line = Line(assign, primary="twin-1")
    will = line.host.will(line.clock.wall_ns())
    said = line.host.outgoing(line.clock.boot_ns(), line.clock.wall_ns())[0]
    assert will.topic == said.topic == f"{NAMESPACE}/STATE/twin-1"
    assert will.payload.replace(b"false", b"true") == said.payload
    assert (said.qos, said.retain) == (1, True)


def test_aliases_stay_bounded_over_any_number_of_births(line):
    node = Node(METRICS)
    for n in range(50):
        node.metrics = {"": [(f"M{n}-{i}", "Double", 1.0, n * 100 + i) for i in range(100)], "pump": METRICS["pump"]}
        line.hear(*node.births())
    assert len(next(iter(line.host._nodes.values())).aliases) == 102


topics = st.builds(
    lambda kind, device: "/".join(["spBv1.0", "G", kind, "N", *device]),
    st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "NCMD"]),
    st.sampled_from([[], ["pump"], ["other"]]),
)
metrics = st.builds(
    lambda fields, value: dict(fields) | dict([value] if value else []),
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from([b"Flow", b"Env/Temp", b"bdSeq", b"\xff", b""]),
            "alias": st.integers(0, 12),
            "datatype": st.integers(0, 40),
            "timestamp": st.sampled_from([0, 1, T0_MS, 2**64 - 1]),
            "is_null": st.booleans(),
            "is_historical": st.booleans(),
        },
    ),
    st.none()
    | st.tuples(st.just("int_value"), st.integers(0, 2**32 - 1))
    | st.tuples(st.just("long_value"), st.integers(0, 2**64 - 1))
    | st.tuples(st.just("double_value"), st.floats())
    | st.tuples(st.just("boolean_value"), st.booleans())
    | st.tuples(st.just("string_value"), st.binary(max_size=4)),
)
payloads = st.binary(max_size=60) | st.builds(
    lambda seq, found: SparkplugPayload(seq=seq, metrics=[SparkplugPayload().metrics.add(**m) for m in found]),
    st.integers(0, 2**64 - 1) | st.integers(0, 3),
    st.lists(metrics, max_size=4),
).map(lambda p: p.SerializeToString())


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(st.tuples(topics, payloads, st.booleans()), max_size=12), data=st.randoms())
def test_no_message_of_any_kind_raises(assign, messages, data):
    line, node = Line(assign), Node(METRICS)
    if data.random() < 0.7:
        line.hear(*node.births())
    for topic, payload, retain in messages:
        for row in line.hear((topic, payload), retain=retain):
            assert row[2] != GOOD or not (isinstance(row[1], float) and math.isnan(row[1]))
        line.asked()
        line.clock.advance(S_NS)
    assert len(values(line.hear(*node.births()))) == 4, "a birth mends whatever came before"


def test_seeded_losses_never_give_a_value_to_another_name(assign):
    """A node that renames its aliases at each birth, over a line that loses a tenth: what arrives is right."""
    rng = random.Random(5)
    line, node = Line(assign), Node(METRICS)
    wrong = taken = 0
    for _ in range(60):
        aliases = rng.sample(range(100), 2)
        node.metrics = {"": [("Env/Temp", "Double", 1.0, aliases[0]), ("Count", "Int32", 2, aliases[1])], "pump": []}
        messages = [node.nbirth()]
        for _ in range(20):
            which = rng.randrange(2)
            value = {"datatype": "Double", "value": 1.0} if which == 0 else {"datatype": "Int32", "value": 2}
            messages.append(node.data({"alias": aliases[which]} | value))
        for message in messages:
            if rng.random() < 0.1:
                continue
            found = values(line.hear(message))
            taken += len(found)
            wrong += sum(value != {0: 1.0, 1: 2}[signal] for signal, value in found.items() if signal < 2)
    assert wrong == 0
    assert taken > 100
