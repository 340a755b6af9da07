"""What `twincloud db verify` finds in compacted history, on both engines."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, func, select, update

from tests.contract.plant import NOW, Edge
from twincloud.registry.blobs import Blobs
from twincloud.storage import schema_hours as h
from twincloud.storage.scrub import scrub
from twincloud.twins.buckets import MINUTE_NS
from twinmodel.clock import SECOND_NS
from twinsync import block

HOUR = 3_600 * SECOND_NS


@pytest.fixture
def compacted(store):
    """Two hours of one gateway, compacted and summed up."""
    edge = Edge(1)
    edge.connect(store)
    for n in range(0, 120, 7):
        edge.send(store, [edge.tick(NOW // HOUR * HOUR + n * 60 * SECOND_NS, n / 8)])
    while store.compact(NOW + 9 * HOUR):
        pass
    while store.bucket(NOW + 9 * HOUR):
        pass
    return store


def found(store, tmp_path) -> list[str]:
    with store._database.read() as connection:
        return list(scrub(connection, Blobs(tmp_path / "artifacts"), block.decode))


def change(store, *statements) -> None:
    with store._database.write() as connection:
        for statement in statements:
            connection.execute(statement)


def test_sound_hours_have_no_fault(compacted, tmp_path):
    assert found(compacted, tmp_path) == []


def test_a_point_of_an_hour_that_cannot_be_read_is_named_with_gateway_hour_and_part(compacted, tmp_path):
    first = select(func.min(h.hours.c.hour_ns)).scalar_subquery()
    point = select(h.points.c.id).where(h.points.c.signal == "plc0.flow").scalar_subquery()
    change(compacted, update(h.hours).values(payload=b"\x07" * 40).where(h.hours.c.hour_ns == first,
                                                                          h.hours.c.point_id == point))  # fmt: skip
    (line,) = found(compacted, tmp_path)
    assert line.startswith("hour 2023-11-14T22Z of gateway gw-1, part ")
    assert "plc0.flow cannot be read" in line


def test_points_and_parts_that_are_missing_are_named(compacted, tmp_path):
    last = select(func.max(h.hours.c.hour_ns)).scalar_subquery()
    point = select(h.points.c.id).where(h.points.c.signal == "plc0.flow").scalar_subquery()
    change(compacted, delete(h.hours).where(h.hours.c.hour_ns == last, h.hours.c.point_id == point))
    assert any("samples, it says" in line for line in found(compacted, tmp_path))
    change(compacted, delete(h.hour_parts).where(h.hour_parts.c.hour_ns == last))
    assert any("its list of blocks is missing" in line for line in found(compacted, tmp_path))


def test_minutes_that_are_not_those_of_their_samples_are_named(compacted, tmp_path):
    other = select(h.buckets.c.payload).where(h.buckets.c.width_ns == MINUTE_NS).order_by(
        h.buckets.c.start_ns.desc()).limit(1)  # fmt: skip
    with compacted._database.read() as connection:
        payload = connection.execute(other).scalar_one()
    change(compacted, update(h.buckets).values(payload=payload))
    lines = found(compacted, tmp_path)
    assert lines
    assert all("are not those of its samples" in line for line in lines)
