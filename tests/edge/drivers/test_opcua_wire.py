"""Publish responses from bytes, against what the library writes, and against garbage."""

from __future__ import annotations

import contextlib
import math
import struct
import uuid
from datetime import UTC, datetime

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from twinedge.drivers.opcua_values import ticks_of
from twinedge.drivers.opcua_variant import Unsupported, WireError
from twinedge.drivers.opcua_wire import Row, Run, read_publish_response

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
T = ua.VariantType


def response(values, *, sequence=7, ended=None):
    """The bytes of a response with these data values, client handles counted from 1."""
    made = ua.PublishResponse()
    made.Parameters.SubscriptionId = 3
    made.Parameters.AvailableSequenceNumbers = [5, 6]
    message = made.Parameters.NotificationMessage
    message.SequenceNumber, message.PublishTime = sequence, NOW
    if values:
        items = [ua.MonitoredItemNotification(n, value) for n, value in enumerate(values, 1)]
        message.NotificationData.append(ua.DataChangeNotification(MonitoredItems=items))
    if ended is not None:
        message.NotificationData.append(ua.StatusChangeNotification(Status=ua.StatusCode(ended)))
    return struct_to_binary(made)


def rows(message):
    """All changes one by one, as (handle, value, status, source, server)."""
    found = []
    for change in message.changes:
        if isinstance(change, Row):
            found.append((change.handle, change.value, change.status, change.source, change.server))
        else:
            columns = (change.handle, change.value, change.status, change.source, change.server)
            found += zip(*(column.tolist() for column in columns), strict=True)
    return found


def test_header_of_a_message_is_read():
    message = read_publish_response(response([ua.DataValue(ua.Variant(1.0))], ended=ua.StatusCodes.BadTimeout))
    assert (message.subscription, message.sequence, message.available) == (3, 7, (5, 6))
    assert message.published == ticks_of(NOW)
    assert message.ended == ua.StatusCodes.BadTimeout
    assert not message.keep_alive


def test_server_that_has_more_to_tell_says_so():
    said = ua.PublishResponse()
    for more in (True, False):
        said.Parameters.MoreNotifications = more
        assert read_publish_response(struct_to_binary(said)).more is more


def test_message_without_content_is_a_keep_alive():
    assert read_publish_response(response([])).keep_alive


def test_equal_shapes_become_columns_and_others_rows():
    stamped = [ua.DataValue(ua.Variant(float(n)), ua.StatusCode(0), NOW, NOW) for n in range(200)]
    odd = ua.DataValue(ua.Variant("x"), ua.StatusCode(0), NOW, None)
    message = read_publish_response(response([*stamped[:100], odd, *stamped[100:]]))
    assert [len(change) for change in message.changes if isinstance(change, Run)] == [200]
    found = sorted(rows(message))
    assert [row[0] for row in found] == list(range(1, 202))
    assert [row[1] for row in found] == [*map(float, range(100)), "x", *map(float, range(100, 200))]
    assert found[100][3:] == (ticks_of(NOW), 0)


@pytest.mark.parametrize(
    ("variant", "value"),
    [
        (ua.Variant(True, T.Boolean), True),
        (ua.Variant(-5, T.SByte), -5),
        (ua.Variant(200, T.Byte), 200),
        (ua.Variant(-300, T.Int16), -300),
        (ua.Variant(60000, T.UInt16), 60000),
        (ua.Variant(-(2**31), T.Int32), -(2**31)),
        (ua.Variant(2**32 - 1, T.UInt32), 2**32 - 1),
        (ua.Variant(-(2**63), T.Int64), -(2**63)),
        (ua.Variant(2**64 - 1, T.UInt64), 2**64 - 1),
        (ua.Variant(0.5, T.Float), 0.5),
        (ua.Variant(1e300, T.Double), 1e300),
        (ua.Variant("é", T.String), "é"),
        (ua.Variant(None, T.String), None),
        (ua.Variant(NOW, T.DateTime), ticks_of(NOW)),
        (ua.Variant(ua.LocalizedText("an", "de"), T.LocalizedText), "an"),
        (ua.Variant([1.0, 2.0], T.Double), [1.0, 2.0]),
        (ua.Variant([True, False], T.Boolean), [True, False]),
        (ua.Variant(["a", None], T.String), ["a", None]),
        (ua.Variant([[1, 2], [3, 4]], T.Int32), [1, 2, 3, 4]),
        (ua.Variant(uuid.UUID(int=5), T.Guid), Unsupported("GUID")),
        (ua.Variant(b"abc", T.ByteString), Unsupported("byte string")),
        (ua.Variant(ua.Range(1.0, 2.0), T.ExtensionObject), Unsupported("structure")),
        (ua.Variant(ua.NodeId("x", 2), T.NodeId), Unsupported("NodeId")),
        (ua.Variant(ua.QualifiedName("x", 2), T.QualifiedName), Unsupported("QualifiedName")),
    ],
)
def test_value_of_each_type_is_read_and_what_follows_stays_in_place(variant, value):
    first = ua.DataValue(variant, ua.StatusCode(ua.StatusCodes.UncertainInitialValue), NOW, NOW)
    both = response([first, ua.DataValue(ua.Variant(7, T.Int32))])
    found = sorted(rows(read_publish_response(both)), key=lambda row: row[0])
    assert found[0] == (1, value, ua.StatusCodes.UncertainInitialValue, ticks_of(NOW), ticks_of(NOW))
    assert found[1][:2] == (2, 7)


def test_text_that_is_not_utf8_spoils_its_own_value_alone():
    both = response([ua.DataValue(ua.Variant("é", T.String)), ua.DataValue(ua.Variant(7, T.Int32))])
    found = sorted(rows(read_publish_response(both.replace("é".encode(), b"\xff\xfe"))), key=lambda row: row[0])
    assert found[0][:2] == (1, Unsupported("text that is not UTF-8"))
    assert found[1][:2] == (2, 7)


def test_changes_of_one_item_in_two_shapes_keep_their_order():
    made = ua.PublishResponse()
    good, bad = ua.DataValue(ua.Variant(1.0)), ua.DataValue(None, ua.StatusCode(ua.StatusCodes.BadNoCommunication))
    changes = [ua.MonitoredItemNotification(n, v) for n, v in ((1, good), (1, bad), (2, good), (1, good))]
    made.Parameters.NotificationMessage.NotificationData.append(ua.DataChangeNotification(MonitoredItems=changes))
    found = rows(read_publish_response(struct_to_binary(made)))
    assert [(row[0], row[1]) for row in found] == [(1, 1.0), (1, None), (2, 1.0), (1, 1.0)]


def test_picoseconds_are_skipped():
    value = ua.DataValue(ua.Variant(1.0), None, NOW, NOW, 5, 6)
    assert [row[1] for row in rows(read_publish_response(response([value] * 20)))] == [1.0] * 20


def test_nan_and_infinity_stay_what_they_are():
    values = [ua.DataValue(ua.Variant(v)) for v in (math.nan, math.inf)]
    found = [row[1] for row in rows(read_publish_response(response(values)))]
    assert math.isnan(found[0])
    assert found[1] == math.inf


simple = st.one_of(
    st.floats(allow_nan=False).map(lambda v: ua.Variant(v, T.Double)),
    st.integers(-(2**31), 2**31 - 1).map(lambda v: ua.Variant(v, T.Int32)),
    st.booleans().map(lambda v: ua.Variant(v, T.Boolean)),
    st.text(max_size=5).map(lambda v: ua.Variant(v, T.String)),
)


@given(st.lists(st.tuples(simple, st.integers(1, 30), st.booleans()), max_size=8))
def test_any_mixture_is_read_as_the_library_wrote_it(groups):
    values = [
        ua.DataValue(variant, ua.StatusCode(0), NOW if stamped else None, NOW)
        for variant, count, stamped in groups
        for _ in range(count)
    ]
    found = sorted(rows(read_publish_response(response(values))), key=lambda row: row[0])
    assert [row[1] for row in found] == [value.Value.Value for value in values]
    assert [row[3] for row in found] == [ticks_of(value.SourceTimestamp) for value in values]


MIXED = response(
    [ua.DataValue(ua.Variant(float(n)), ua.StatusCode(0), NOW, NOW) for n in range(30)]
    + [ua.DataValue(ua.Variant(["a", "b"], T.String)), ua.DataValue(ua.Variant(ua.NodeId("x", 2), T.NodeId))]
)


@given(st.integers(0, len(MIXED) - 1))
def test_response_cut_anywhere_is_refused(length):
    with pytest.raises(WireError):
        read_publish_response(MIXED[:length])


@given(st.integers(0, len(MIXED) - 1), st.integers(0, 255))
def test_flipped_byte_never_gives_another_error(position, byte):
    garbled = MIXED[:position] + bytes([byte]) + MIXED[position + 1 :]
    with contextlib.suppress(WireError):
        assert len(rows(read_publish_response(garbled))) <= len(MIXED)


def test_count_beyond_the_message_allocates_nothing():
    short = response([ua.DataValue(ua.Variant(1.0))])
    at = short.rindex(struct.pack("<iI", 1, 1))
    with pytest.raises(WireError, match="array of"):
        read_publish_response(short[:at] + struct.pack("<i", 2**31 - 1) + short[at + 4 :])
