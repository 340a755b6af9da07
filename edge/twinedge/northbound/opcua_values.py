"""Samples as OPC UA carries them: one as a DataValue, many as the bytes of a notification (Part 6, 5.2).

A change of a number has a fixed length, so that a thousand of them are one numpy array and its bytes; asyncua spends
a tenth of a millisecond on each.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncua.ua
import numpy as np
from numpy.typing import NDArray

from twinedge.northbound.opcua_status import STATUS, WAITING
from twinedge.northbound.store import Reading
from twinmodel.quality import QualityClass, class_of
from twinmodel.signal import Kind

ua: Any = asyncua.ua  # it re-exports its names without saying so, which strict typing refuses

DATA_CHANGE: Final = ua.FourByteNodeId(811)
VARIANTS: Final = {
    Kind.FLOAT: ua.VariantType.Double,
    Kind.INT: ua.VariantType.Int64,
    Kind.BOOL: ua.VariantType.Boolean,
    Kind.STRING: ua.VariantType.String,
}
TEXT_MAX: Final = 4_096
"""Bytes of a text beyond which its rest is left out."""
BAD: Final = 0x8000_0000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS_TO_1970 = 116_444_736_000_000_000  # steps of 100 ns from 1601-01-01, Part 6, 5.2.2.5
_STAMPS: Final = [("status", "<u4"), ("source", "<i8"), ("server", "<i8")]
_HEAD: Final = [("handle", "<u4"), ("mask", "u1")]
_WIRE: Final = {Kind.FLOAT: "<f8", Kind.INT: "<i8", Kind.BOOL: "u1"}
_SHAPES: Final = {
    kind: np.dtype([*_HEAD, ("variant", "u1"), ("value", wire), *_STAMPS]) for kind, wire in _WIRE.items()
}
_WITHOUT: Final = np.dtype([*_HEAD, *_STAMPS])
_ALL, _NO_VALUE = 0x0F, 0x0E  # value, status, source and server time; a bad one has no value


def moment(t_ns: int) -> datetime:
    """A wall time as OPC UA libraries have it, to the microsecond."""
    return _EPOCH + timedelta(microseconds=t_ns // 1000)


def data_value(kind: Kind, reading: Reading, now_ns: int) -> Any:
    """One sample as a DataValue; a bad one carries no value."""
    status = WAITING if reading.t_ns == 0 else int(STATUS[min(reading.quality, len(STATUS) - 1)])
    value = reading.value
    if class_of(reading.quality) is QualityClass.BAD or reading.t_ns == 0:
        variant = ua.Variant(None, ua.VariantType.Null)
    else:
        variant = ua.Variant(cut(value) if kind is Kind.STRING else value, VARIANTS[kind])
    source = moment(reading.t_ns) if reading.t_ns else None
    return ua.DataValue(variant, ua.StatusCode(status), source, moment(now_ns))


def cut(text: str) -> str:
    """A text of at most `TEXT_MAX` bytes."""
    if len(text) * 4 <= TEXT_MAX:
        return text
    return text.encode()[:TEXT_MAX].decode(errors="ignore")


def changes(
    kind: Kind,
    handle: NDArray[np.uint32],
    value: NDArray[Any],
    status: NDArray[np.uint32],
    t_ns: NDArray[np.int64],
    now_ns: int,
) -> list[bytes]:
    """MonitoredItemNotifications of samples of one kind, as bytes; a bad one carries no value.

    Args:
        kind: of all values.
        handle: client handles.
        value: values, of no meaning where the status is bad.
        status: status codes.
        t_ns: source times, 0 for none.
        now_ns: server time.
    """
    source = np.where(t_ns == 0, 0, t_ns // 100 + _TICKS_TO_1970)
    server = now_ns // 100 + _TICKS_TO_1970
    bad = status >= BAD
    parts = []
    if bad.any():
        rows = np.empty(int(np.count_nonzero(bad)), _WITHOUT)
        rows["mask"] = _NO_VALUE
        rows["handle"], rows["status"], rows["source"], rows["server"] = handle[bad], status[bad], source[bad], server
        parts.append(rows.tobytes())
    good = ~bad
    if not good.any():
        return parts
    if kind is Kind.STRING:
        columns = zip(handle[good].tolist(), value[good], status[good].tolist(), source[good].tolist(), strict=True)
        parts += [_text(h, v, s, t, server) for h, v, s, t in columns]
        return parts
    rows = np.empty(int(np.count_nonzero(good)), _SHAPES[kind])
    rows["mask"], rows["variant"] = _ALL, VARIANTS[kind].value
    rows["handle"], rows["value"], rows["status"] = handle[good], value[good], status[good]
    rows["source"], rows["server"] = source[good], server
    parts.append(rows.tobytes())
    return parts


def _text(handle: int, value: str, status: int, source: int, server: int) -> bytes:
    raw = cut(value).encode()
    head = struct.pack("<IBBi", handle, _ALL, VARIANTS[Kind.STRING].value, len(raw))
    return head + raw + struct.pack("<Iqq", status, source, server)


def notification(count: int, parts: list[bytes]) -> Any:
    """A DataChangeNotification of so many changes, ready for a PublishResponse."""
    body = struct.pack("<i", count) + b"".join(parts) + struct.pack("<i", -1)
    return ua.ExtensionObject(DATA_CHANGE, body)
