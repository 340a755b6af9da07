"""One simulated device: a plant, its sensors, its faults and the number of its latest sample."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from twinmodel.clock import MILLISECOND_NS, round_to_step
from twinsim.faults import Fault, FaultPanel
from twinsim.firmware import DeviceKind, Protocol

_SEED_OF_PROTOCOL = {"modbus": 1, "opcua": 2, "mqtt": 3}
_WIRE_FAULTS = {"modbus": ("modbus",)}


class Device:
    """A device that servers show to the outside; all readings of one tick belong together.

    Attributes:
        name: such as `HX-3`.
        kind: what it is.
        number: counted from 1 within its kind; the unit id of a Modbus device.
        plant: the physics, with the truth for tests.
        faults: the panel that faults are switched on at.
        reading: values by point name of the latest tick, multiples of each sensor's resolution.
        t_ns: wall time of the latest tick, a whole millisecond.
        age_s: device time in seconds since it was switched on.
        sample_no: number of the latest sample given out, uint32.
    """

    def __init__(self, kind: DeviceKind, number: int, seed: int) -> None:
        self.name = f"{kind.prefix}-{number}"
        self.kind = kind
        self.number = number
        key = (seed, _SEED_OF_PROTOCOL[kind.protocol], number)
        self.plant = kind.plant(np.random.default_rng((*key, 0)))
        self.faults = FaultPanel(
            kind.sensors, np.random.default_rng((*key, 1)), ("any", "plant", *_WIRE_FAULTS.get(kind.protocol, ()))
        )
        self.age_s = 0.0
        self.t_ns = 0
        self.address = ""
        self.sample_no = 0
        self.reading: Mapping[str, float] = {}
        self._measure()

    @property
    def protocol(self) -> Protocol:
        """What it speaks."""
        return self.kind.protocol

    @property
    def profile(self) -> str:
        """Name of its profile, with version."""
        return self.kind.profile

    def tick(self, dt_s: float, wall_ns: int) -> None:
        """Moves the device `dt_s` seconds on and measures once; `wall_ns` becomes the time of the readings."""
        self.age_s += dt_s
        self.faults.expire(self.age_s)
        self.plant.wear(self.faults.wear_factor(self.age_s))
        self.plant.step(dt_s)
        self.t_ns = round_to_step(wall_ns, MILLISECOND_NS)
        self._measure()

    def _measure(self) -> None:
        shown = self.faults.distort(self.plant.read(), self.age_s)
        self.reading = {sensor.name: sensor.convert(shown[sensor.name]) for sensor in self.kind.sensors}

    def next_sample(self) -> int:
        """Counts one more sample and returns its number, from 1; wraps as a uint32 does."""
        self.sample_no = (self.sample_no + 1) & 0xFFFFFFFF
        return self.sample_no

    def inject(
        self, kind: str, *, point: str = "", size: float | None = None, for_s: float | None = None, to: str = ""
    ) -> Fault:
        """Begins a fault now; see `FaultPanel.switch_on`."""
        return self.faults.switch_on(
            kind, now_s=self.age_s, reading=self.reading, point=point, size=size, for_s=for_s, to=to
        )

    def check(
        self, kind: str, *, point: str = "", size: float | None = None, for_s: float | None = None, to: str = ""
    ) -> None:
        """Refuses what `inject` would refuse, and begins nothing; see `FaultPanel.check`."""
        self.faults.check(kind, point=point, size=size, for_s=for_s, to=to)
