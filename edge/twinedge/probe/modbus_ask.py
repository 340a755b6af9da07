"""Asks Modbus units one question at a time, slowly enough for any bus, and says in words what comes back."""

from __future__ import annotations

import asyncio
import errno
import getpass
import socket
from dataclasses import dataclass
from typing import Final

from twinedge.config.address import ModbusAddress
from twinedge.drivers.modbus_frame import (
    BUSY,
    INTERFACE_TRANSPORT,
    NO_PATH,
    NO_TARGET,
    Answer,
    Malformed,
    Refused,
    Request,
    Values,
)
from twinedge.drivers.modbus_line import Line, LineLostError, SilentError
from twinmodel.clock import Clock
from twinmodel.errors import UnreachableError

PAUSE_S: Final = 0.05
BUSY_PAUSE_S: Final = 0.2
OBJECT_NAMES: Final = {
    0: "vendor",
    1: "product code",
    2: "revision",
    3: "vendor's page",
    4: "product",
    5: "model",
    6: "application",
}
EXCEPTIONS: Final = {
    1: ("ILLEGAL FUNCTION", "the device does not know this function: try the other table (holding, input)"),
    2: ("ILLEGAL DATA ADDRESS", "the device has no such register: check table, number and whether it counts from 0"),
    3: ("ILLEGAL DATA VALUE", "the device reads fewer registers at once here: try a shorter type"),
    4: ("SERVER DEVICE FAILURE", "the device has a fault of its own: look at its display or log"),
    5: ("ACKNOWLEDGE", "the device needs longer: try again"),
    6: ("SERVER DEVICE BUSY", "the device is busy: try again, or raise --timeout"),
    8: ("MEMORY PARITY ERROR", "the device's memory is damaged: restart it"),
    10: ("GATEWAY PATH UNAVAILABLE", "the gateway has no line to this unit: check its routing of unit ids"),
    11: (
        "GATEWAY TARGET DEVICE FAILED TO RESPOND",
        "nobody behind the gateway has this unit id: check id, wiring, baud and parity",
    ),
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a unit answered, in words.

    Attributes:
        answer: as it came.
        text: "" for values.
        hint: what to do about it.
    """

    answer: Answer
    text: str = ""
    hint: str = ""


class Asker:
    """One connection for probing; each question waits until the one before is answered or given up.

    Args:
        address: where to.
        clock: of the line.
        timeout_s: time for a connection and for each reply.

    Attributes:
        requests: questions sent so far.
    """

    def __init__(self, address: ModbusAddress, clock: Clock, timeout_s: float) -> None:
        self._address, self._clock, self._timeout_s = address, clock, timeout_s
        self._line: Line | None = None
        self.requests = 0

    async def open(self) -> None:
        """Connects.

        Raises:
            UnreachableError: DEVICE_UNREACHABLE with what is wrong and what to do.
        """
        line = Line(self._address, self._clock, self._timeout_s, shared=False)
        try:
            await line.open()
        except (OSError, TimeoutError) as refused:
            line.close()
            raise _unreachable(self._address, refused) from refused
        self._line = line

    def close(self) -> None:
        """Ends the connection."""
        if self._line is not None:
            self._line.close()
            self._line = None

    async def ask(self, unit: int, request: Request) -> Told | None:
        """Asks once, again where the unit says that it is busy; None when it stays silent.

        Raises:
            UnreachableError: the connection is lost and cannot be had again.
        """
        for attempt in range(3):
            if self._line is None or not self._line.is_open:
                await self.open()
            assert self._line is not None, "it was just opened"
            self.requests += 1
            try:
                answer = (await self._line.ask(unit, request)).answer
            except SilentError:
                return None
            except LineLostError as lost:
                if attempt:
                    hint = "the device takes few connections: stop other masters (an agent on this gateway too)"
                    text = f"{self._address} closes the connection when asked: {lost}"
                    if "protocol" in str(lost):
                        hint = "something else than Modbus TCP answers at this port: check the port"
                    raise UnreachableError("DEVICE_UNREACHABLE", text, hint=hint) from lost
                continue
            finally:
                await asyncio.sleep(PAUSE_S)
            if isinstance(answer, Refused) and answer.code == BUSY and attempt < 2:
                await asyncio.sleep(BUSY_PAUSE_S)
                continue
            return _told(answer)
        return None


def absent(told: Told | None) -> bool:
    """Whether nobody is at the unit id: silence, or a gateway that says so."""
    return told is None or (isinstance(told.answer, Refused) and told.answer.code in {NO_PATH, NO_TARGET})


async def identification(asker: Asker, unit: int) -> dict[str, str]:
    """What the unit says of itself (function 43/14); empty when it knows no such question."""
    found: dict[str, str] = {}
    for category in (1, 2):
        next_object = 0
        for _ in range(8):  # a reply holds 253 bytes; what does not fit follows
            body = bytes((INTERFACE_TRANSPORT, 0x0E, category, next_object))
            told = await asker.ask(unit, Request(body, INTERFACE_TRANSPORT, -1, "device identification"))
            if told is None or not isinstance(told.answer, Values):
                return found
            raw = told.answer.raw
            if len(raw) < 6 or raw[0] != 0x0E:
                return found
            found |= _objects(raw[6:], raw[5])
            if raw[3] != 0xFF or raw[4] <= next_object:
                break
            next_object = raw[4]
        if raw[2] & 0x7F < 2:
            break
    return found


def _objects(raw: bytes, count: int) -> dict[str, str]:
    found, at = {}, 0
    for _ in range(count):
        if at + 2 > len(raw):
            break
        number, size = raw[at], raw[at + 1]
        text = raw[at + 2 : at + 2 + size].decode("utf-8", "replace").strip("\0 ")
        if text:
            found[OBJECT_NAMES.get(number, f"object {number}")] = text
        at += 2 + size
    return found


def _told(answer: Answer) -> Told:
    if isinstance(answer, Refused):
        name, hint = EXCEPTIONS.get(answer.code, ("unknown", "see the maker's document"))
        return Told(answer, f"exception {answer.code} {name}", hint)
    if isinstance(answer, Malformed):
        return Told(
            answer, answer.text, "this is no Modbus, or another device speaks between: check framing and wiring"
        )
    return Told(answer)


def _unreachable(address: ModbusAddress, refused: OSError) -> UnreachableError:
    number = refused.errno
    text, hint = f"no connection to {address}: {refused.strerror or refused or 'no answer'}", ""
    if address.framing == "rtu":
        if number == errno.EBUSY:
            text = f"{address.path} is in use by another process"
            hint = "an agent that runs has it for itself: `systemctl stop twinedge` while you probe"
        elif number in {errno.EACCES, errno.EPERM}:
            text = f"{getpass.getuser()} may not open {address.path}"
            hint = f"`usermod -aG dialout {getpass.getuser()}` and log in again, or run it as root"
        elif number in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
            text, hint = f"there is no {address.path}", "`ls /dev/serial/by-id` shows the lines that are plugged in"
        else:
            hint = "check baud, parity and stop in the address; not every converter takes each"
    elif isinstance(refused, TimeoutError):
        text = f"no answer from {address}"
        hint = "check address, cable and power; a firewall may drop the packets: `ping` tells whether the host is there"
    elif isinstance(refused, ConnectionRefusedError):
        text = f"{address} refuses the connection: the host is there, and nothing listens at this port"
        hint = "check the port, and that Modbus TCP is switched on in the device; it may take one client only"
    elif isinstance(refused, socket.gaierror):
        text, hint = f"the name {address.host} is not known", "write its IP address, or mend the name server"
    elif number in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
        hint = "this gateway has no way there: compare its network (`ip route`) with the device's address and mask"
    return UnreachableError("DEVICE_UNREACHABLE", text, hint=hint or None)
