"""What each kind of simulated device is: its plant, its points and the firmware profile that describes it.

The files under firmware-profiles/hybridtwin say the same in the words agents read; a test compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twinsim.plants.exchanger import Exchanger
from twinsim.plants.motion import Plant
from twinsim.plants.pump import Pump
from twinsim.plants.tanks import Tanks

Protocol = Literal["modbus", "opcua", "mqtt"]
SAMPLE_NO = "sample_no"
IDENTITY = "TWINSIM TANKS1.0"
"""Identity string of the tanks controller, 16 ASCII characters from holding register 100 on."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One measured point.

    Attributes:
        name: of the point in the firmware profile and in `Plant.read`.
        unit: of its values.
        low: lower end of the measuring range.
        high: upper end of it.
        resolution: step of the converter; readings are multiples of it.
    """

    name: str
    unit: str
    low: float
    high: float
    resolution: float

    def convert(self, value: float) -> float:
        """The value as the converter gives it: a multiple of the resolution."""
        return round(round(value / self.resolution) * self.resolution, 9)


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """A kind of device; its first sensor is the one faults hit when none is named.

    Attributes:
        protocol: what it speaks.
        profile: `vendor/device/firmware` under firmware-profiles.
        prefix: devices are called `prefix-1`, `prefix-2` ...
        plant: makes the physics from a seeded generator.
        sensors: measured points in the order of the register map or payload.
        rate_hz: how often its values change unless told otherwise.
    """

    protocol: Protocol
    profile: str
    prefix: str
    plant: Callable[[np.random.Generator], Plant]
    sensors: tuple[Sensor, ...]
    rate_hz: float


KINDS: Mapping[Protocol, DeviceKind] = {
    "modbus": DeviceKind(
        "modbus",
        "hybridtwin/coupled-tanks/1.0",
        "T",
        Tanks,
        (Sensor("level2", "m", 0.0, 1.0, 0.0001), Sensor("pump", "V", 0.0, 10.0, 0.01)),
        10.0,
    ),
    "opcua": DeviceKind(
        "opcua",
        "hybridtwin/heat-exchanger/1.0",
        "HX",
        Exchanger,
        (
            Sensor("hot_out", "degC", 0.0, 120.0, 0.01),
            Sensor("cold_out", "degC", 0.0, 120.0, 0.01),
            Sensor("hot_in", "degC", 0.0, 120.0, 0.01),
            Sensor("cold_in", "degC", 0.0, 60.0, 0.01),
        ),
        1.0,
    ),
    "mqtt": DeviceKind(
        "mqtt",
        "hybridtwin/centrifugal-pump/1.0",
        "P",
        Pump,
        (
            Sensor("flow", "m3/h", 0.0, 100.0, 0.01),
            Sensor("head", "m", 0.0, 50.0, 0.01),
            Sensor("power", "kW", 0.0, 15.0, 0.001),
            Sensor("speed", "rpm", 0.0, 3600.0, 0.1),
        ),
        1.0,
    ),
}
