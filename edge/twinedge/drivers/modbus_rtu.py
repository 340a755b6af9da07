"""Requests and replies on serial lines, with their checksum from pymodbus; loaded only where a site has such a line."""

from __future__ import annotations

from pymodbus.framer.rtu import FramerRTU

from twinedge.drivers.modbus_frame import EXCEPTION, INTERFACE_TRANSPORT

OBJECTS_AT = 7
"""Place of the number of objects, behind unit, function, type, code, conformity, "more follows" and next object."""
ECHOES = {5: 8, 6: 8, 15: 8, 16: 8, 22: 10}
"""Length of replies to writes, which repeat what was written or where."""


def rtu_frame(unit: int, body: bytes) -> bytes:
    """A request on a serial line."""
    frame = bytes((unit,)) + body
    return frame + FramerRTU.compute_CRC(frame).to_bytes(2, "big")


def rtu_reply(buffer: bytes | bytearray, unit: int, function: int) -> bytes | None:
    """The body of the unit's reply somewhere in a buffer, None while there is none.

    Glitches before it, echoes and replies of other units are passed over; the checksum decides.
    """
    for at in range(len(buffer) - 4):
        if buffer[at] != unit:
            continue
        if buffer[at + 1] == function == INTERFACE_TRANSPORT:
            size = _identification_size(buffer, at)
        elif buffer[at + 1] == function:
            size = ECHOES.get(function, buffer[at + 2] + 5)
        elif buffer[at + 1] == function | EXCEPTION:
            size = 5
        else:
            continue
        frame = bytes(buffer[at : at + size])
        if len(frame) == size and FramerRTU.compute_CRC(frame[:-2]) == int.from_bytes(frame[-2:], "big"):
            return frame[1:-2]
    return None


def _identification_size(buffer: bytes | bytearray, at: int) -> int:
    """Length of a reply with device identification: it tells the number of its objects, and each its own length."""
    if len(buffer) <= at + OBJECTS_AT:
        return len(buffer) + 1  # more is to come
    end = at + OBJECTS_AT + 1
    for _ in range(buffer[at + OBJECTS_AT]):
        if len(buffer) <= end + 1:
            return len(buffer) + 1
        end += 2 + buffer[end + 1]
    return end + 2 - at
