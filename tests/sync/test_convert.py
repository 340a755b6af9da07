"""What a dataclass says survives the wire, and what a stranger malforms is refused by the field's name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.clock import ClockQuality
from twinmodel.errors import InputError
from twinmodel.signal import Catalogue, Kind, Signal, Stream, TwinBinding
from twinsync import convert, limits
from twinsync.item import Block, Boot, Gap, Item, Mark, NotAcquired, Outage, Range
from twinsync.v1 import types_pb2 as pb

BOOT = bytes(range(16))
times = st.integers(limits.TIME_NS_MIN, limits.TIME_NS_MAX)
seqs = st.integers(0, limits.SEQ_MAX)
streams = st.sampled_from(Stream)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@st.composite
def items(draw):
    first = draw(seqs)
    shape = draw(st.integers(0, 3))
    if shape == 0:
        early, late = sorted((draw(times), draw(times)))
        count = min(draw(st.integers(1, limits.BLOCK_SAMPLES_MAX)), limits.SEQ_MAX - first + 1)
        content = Block(draw(st.binary(min_size=32, max_size=32)), draw(st.integers(0, 2**32 - 1)),
                        draw(st.binary(min_size=1, max_size=99)), early, late)  # fmt: skip
    elif shape == 1:
        count = min(draw(st.integers(1, 2**62)), limits.SEQ_MAX - first + 1)
        content = Gap(draw(names), count, draw(times), draw(times))
    elif shape == 2:
        count, content = 1, Outage(draw(st.binary(min_size=16, max_size=16)), draw(times), draw(times))
    else:
        count, content = 1, NotAcquired(draw(names), draw(names), draw(times), draw(times))
    return Item(draw(st.binary(min_size=16, max_size=16)), draw(streams), first, first + count - 1, content)


@given(items())
def test_item_through_the_wire_is_the_same_item(item):
    message = pb.Item.FromString(convert.item_to_proto(item).SerializeToString())
    assert convert.item_from_proto(message) == item


@given(streams, seqs, seqs)
def test_marks_and_ranges_through_the_wire_are_the_same(stream, one, other):
    mark = Mark(BOOT, stream, one)
    held = Range(BOOT, stream, min(one, other), max(one, other))
    assert convert.mark_from_proto(convert.mark_to_proto(mark)) == mark
    assert convert.range_from_proto(convert.range_to_proto(held)) == held


@given(st.sampled_from(ClockQuality), times, st.sampled_from([b"", bytes(16)]))
def test_boot_through_the_wire_is_the_same(clock, started_ns, previous):
    boot = Boot(BOOT, previous, 3, started_ns, clock)
    assert convert.boot_from_proto(convert.boot_to_proto(boot)) == boot


def test_enums_of_the_wire_never_carry_zero():
    for stream in Stream:
        assert pb.Stream.Name(convert.mark_to_proto(Mark(BOOT, stream, 0)).stream) == f"STREAM_{stream.name}"
    for clock in ClockQuality:
        assert pb.ClockQuality.Name(convert.clock_to_proto(clock)) == f"CLOCK_QUALITY_{clock.name}"
    for kind in Kind:
        assert pb.Kind.Name(kind) == f"KIND_{kind.name}"


CATALOGUE = Catalogue(
    (
        Signal(0, "press.level", Kind.FLOAT, "m", Stream.TELEMETRY, 3, 5, 10**9),
        Signal(1, "press.fault", Kind.BOOL, "", Stream.ALARM),
        Signal(2, "tank/level#sigma", Kind.FLOAT, "m", Stream.STATE, -2, 1, 0),
    ),
    (TwinBinding("tank", "two-tanks", "two-tanks@1", {"level": "press.level"}, ("level",), {"level": "m"}),),
    1000,
)


def test_catalogue_through_the_wire_has_the_same_digest():
    message = pb.Catalogue.FromString(convert.catalogue_to_proto(CATALOGUE).SerializeToString())
    back = convert.catalogue_from_proto(message)
    assert back == CATALOGUE
    assert back.digest == CATALOGUE.digest


def spoiled(message, path, value):
    *parents, name = path.split(".")
    part = message
    for parent in parents:
        part = part.signals[int(parent[1:])] if parent.startswith("@") else getattr(part, parent)
    if value is None:
        part.ClearField(name)
    else:
        setattr(part, name, value)
    return message


def block_message():
    return convert.item_to_proto(Item(BOOT, Stream.TELEMETRY, 5, 9, Block(bytes(32), 1, b"x", 1, 2)))


def gap_message():
    return convert.item_to_proto(Item(BOOT, Stream.TELEMETRY, 5, 9, Gap("STORE_FULL", 5, 1, 2)))


def record_message():
    return convert.item_to_proto(Item(BOOT, Stream.STATE, 5, 5, NotAcquired("press", "DEVICE_UNREACHABLE", 1, 0)))


def outage_message():
    return convert.item_to_proto(Item(BOOT, Stream.STATE, 5, 5, Outage(BOOT, 1, 2)))


@pytest.mark.parametrize(
    ("make", "path", "value", "field"),
    [
        (block_message, "boot", b"short", "item.boot"),
        (block_message, "stream", 0, "item.stream"),
        (block_message, "stream", 99, "item.stream"),
        (block_message, "first_seq", 10, "item.first_seq"),
        (block_message, "last_seq", 2**64 - 1, "item.last_seq"),
        (block_message, "last_seq", 5 + limits.BLOCK_SAMPLES_MAX, "item.last_seq"),
        (block_message, "block", None, "item.content"),
        (block_message, "block.schema", b"", "block.schema"),
        (block_message, "block.payload", b"", "block.payload"),
        (block_message, "block.payload", bytes(limits.BLOCK_BYTES_MAX + 1), "block.payload"),
        (block_message, "block.t_min_ns", 3, "block.t_min_ns"),
        (gap_message, "gap.count", 4, "gap.count"),
        (gap_message, "gap.reason", "", "gap.reason"),
        (gap_message, "gap.reason", "X" * 65, "gap.reason"),
        (record_message, "last_seq", 6, "item.last_seq"),
        (record_message, "not_acquired.device", "", "not_acquired.device"),
        (record_message, "not_acquired.reason", "", "not_acquired.reason"),
        (outage_message, "outage.previous_boot", b"", "outage.previous_boot"),
    ],
)
def test_malformed_item_is_refused_by_the_name_of_the_field(make, path, value, field):
    with pytest.raises(InputError) as refusal:
        convert.item_from_proto(spoiled(make(), path, value))
    assert refusal.value.reason == "PROTOCOL_VIOLATION"
    assert refusal.value.facts["field"] == field


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("digest", bytes(32), "catalogue.digest"),
        ("time_step_ns", 0, "catalogue.time_step_ns"),
        ("time_step_ns", 2**63, "catalogue.time_step_ns"),
        ("@0.name", "", "signals[0].name"),
        ("@1.name", "press.level", "declared twice"),
        ("@0.kind", 0, "signals[0].kind"),
        ("@0.kind", 9, "signals[0].kind"),
        ("@0.stream", 0, "signals[0].stream"),
        ("@0.step", 0, "signals[0].step"),
        ("@0.unit", "u" * 300, "signals[0].unit"),
        ("@0.period_ns", 2**63, "signals[0].period_ns"),
        ("@0.exponent", 2, "catalogue.digest"),
    ],
)
def test_malformed_catalogue_is_refused_by_the_name_of_the_field(path, value, text):
    with pytest.raises(InputError, match="PROTOCOL_VIOLATION") as refusal:
        convert.catalogue_from_proto(spoiled(convert.catalogue_to_proto(CATALOGUE), path, value))
    assert text in refusal.value.message


@pytest.mark.parametrize(
    ("call", "message", "field"),
    [
        (convert.mark_from_proto, pb.Mark(boot=b"x", stream=1), "mark.boot"),
        (convert.mark_from_proto, pb.Mark(boot=BOOT, stream=0), "mark.stream"),
        (convert.mark_from_proto, pb.Mark(boot=BOOT, stream=1, next_seq=2**63), "mark.next_seq"),
        (convert.range_from_proto, pb.Range(boot=BOOT, stream=1, first_unacked=2, next_seq=1), "range.first_unacked"),
        (convert.boot_from_proto, pb.Boot(id=b"", clock=1), "boot.id"),
        (convert.boot_from_proto, pb.Boot(id=BOOT, previous=b"x", clock=1), "boot.previous"),
        (convert.boot_from_proto, pb.Boot(id=BOOT, clock=0), "boot.clock"),
        (convert.boot_from_proto, pb.Boot(id=BOOT, clock=1, counter=2**64 - 1), "boot.counter"),
    ],
)
def test_malformed_mark_range_or_boot_is_refused_by_the_name_of_the_field(call, message, field):
    with pytest.raises(InputError) as refusal:
        call(message)
    assert (refusal.value.reason, refusal.value.facts["field"]) == ("PROTOCOL_VIOLATION", field)
