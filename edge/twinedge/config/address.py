"""Where a Modbus device is reached, and ranges that stand for many devices.

tcp://10.0.0.7:502                       Modbus TCP; tcp://10.0.0.{20..59}:502 are forty hosts
rtu+tcp://10.0.0.8:4001                  serial frames through a converter
rtu:///dev/ttyUSB0?baud=9600&parity=E    a serial line
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import parse_qsl, urlsplit

PORT = 502
BAUDS = (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
RANGE_MAX = 4096
UNIT_MAX = 255
Framing = Literal["tcp", "rtu+tcp", "rtu"]
_RANGE = re.compile(r"\{(\d{1,5})\.\.(\d{1,5})\}")
_UNITS = re.compile(r"(\d{1,3})\.\.(\d{1,3})")


@dataclass(frozen=True, slots=True)
class ModbusAddress:
    """A connection that units of Modbus share.

    Attributes:
        framing: how requests are framed; `rtu` is a serial line.
        host, port: of TCP.
        path: device file of a serial line.
        baud, parity, stop: of a serial line; 8 data bits.
    """

    framing: Framing
    host: str = ""
    port: int = PORT
    path: str = ""
    baud: int = 19200
    parity: Literal["N", "E", "O"] = "N"
    stop: Literal[1, 2] = 1

    def __str__(self) -> str:
        return self.path if self.framing == "rtu" else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """As site.yaml takes it."""
        if self.framing == "rtu":
            return f"rtu://{self.path}?baud={self.baud}&parity={self.parity}&stop={self.stop}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.framing}://{host}:{self.port}"


def parse_modbus(text: str) -> ModbusAddress:
    """Reads an address. Raises ValueError that says what to write instead."""
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password in an address")
    if parts.scheme in {"tcp", "rtu+tcp"}:
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.port == 0:
            raise ValueError(f"{text!r} is no address; write {parts.scheme}://host:port")
        return ModbusAddress(cast("Framing", parts.scheme), parts.hostname, parts.port or PORT)
    if parts.scheme != "rtu" or parts.netloc or not parts.path.startswith("/") or len(parts.path) < 2:
        raise ValueError(
            f"{text!r} is no address; write tcp://host:port, rtu+tcp://host:port or rtu:///dev/ttyUSB0?baud=19200"
        )
    return _serial(parts.path, parts.query)


def _serial(path: str, query: str) -> ModbusAddress:
    options = {"baud": "19200", "parity": "N", "stop": "1"}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in options:
            raise ValueError(f"a serial line has no {key!r}; there are baud, parity and stop")
        options[key] = value
    if options["baud"] not in {str(b) for b in BAUDS}:
        raise ValueError(f"baud {options['baud']!r} is none of {', '.join(map(str, BAUDS))}")
    parity, stop = options["parity"].upper(), options["stop"]
    if parity not in {"N", "E", "O"} or stop not in {"1", "2"}:
        raise ValueError(f"parity {parity!r}, stop {stop!r}: parity is N, E or O, stop 1 or 2")
    return ModbusAddress(
        "rtu", path=path, baud=int(options["baud"]), parity=cast("Literal['N', 'E', 'O']", parity),
        stop=cast("Literal[1, 2]", int(stop)),
    )  # fmt: skip


def spread_address(text: str) -> list[str]:
    """The addresses that `{20..59}` stands for; one without a range is itself. Raises ValueError."""
    found = _RANGE.search(text)
    if found is None:
        return [text]
    low, high = int(found[1]), int(found[2])
    _check_range(found[0], low, high)
    rest = text[found.end() :]
    if _RANGE.search(rest):
        raise ValueError(f"{text!r}: one range an address")
    return [f"{text[: found.start()]}{n}{rest}" for n in range(low, high + 1)]


def spread_units(text: int | str) -> list[int]:
    """The unit ids that `1..32` stands for. Raises ValueError."""
    if isinstance(text, int):
        return [text]
    found = _UNITS.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no range of unit ids; write e.g. 1..32")
    low, high = int(found[1]), int(found[2])
    _check_range(text, low, high)
    if high > UNIT_MAX:
        raise ValueError(f"unit ids end at {UNIT_MAX}, found {high}")
    return list(range(low, high + 1))


def _check_range(text: str, low: int, high: int) -> None:
    if not low <= high < low + RANGE_MAX:
        raise ValueError(f"{text!r} must ascend and hold at most {RANGE_MAX}")
