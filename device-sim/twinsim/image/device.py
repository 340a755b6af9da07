"""One device simulated from its profile alone: an image, its faults, and how it starts, ages and restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twinmodel.clock import MILLISECOND_NS, round_to_step
from twinmodel.errors import ConflictError
from twinmodel.profile.schema import Point, Protocol, kind_of
from twinmodel.signal import Kind
from twinsim.faults import Fault, FaultKind, FaultPanel
from twinsim.firmware import Sensor
from twinsim.image.codec import Value
from twinsim.image.registers import RegisterImage
from twinsim.image.source import Source, settings_of, updated
from twinsim.image.typed import TypedImage

WRITES_KEPT = 100
_AWAY = (FaultKind.REBOOT, FaultKind.FIRMWARE_UPDATE, FaultKind.RENUMBER)
_DISTORTING = (FaultKind.STUCK, FaultKind.DRIFT, FaultKind.SPIKE)


@dataclass(frozen=True, slots=True)
class Written:
    """One write of a client: `code` is 0 when it was taken, else what the device refused it with."""

    t_ns: int
    connection: str
    point: str
    value: Value | None
    code: int
    why: str = ""


class ProfileDevice:
    """A device that a profile describes.

    Attributes:
        name: such as `b23-1`.
        number: counted from 1.
        address, unit_id, root: where it is served, as site.yaml takes it.
        source: the profile it shows now.
        image: what its points hold.
        faults: the panel that faults are switched on at.
        t_ns: wall time of the latest tick, a whole millisecond.
        age_s: seconds since it was made; `up_s` since it was last switched on.
        sample_no: number of the latest answer, notification or message given out, uint32.
        starts: how often it was switched on.
        writes: the latest writes of clients.
    """

    def __init__(
        self, name: str, number: int, source: Source, seed: int, settings: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.number, self.source = name, number, source
        self.address = ""
        self.unit_id = number
        self.root = ""
        self.age_s = 0.0
        self.t_ns = 0
        self.sample_no = 0
        self.starts = 1
        self.writes: list[Written] = []
        self._seed = f"{seed}/{name}"
        self._settings = dict(settings or {})
        self._since_s = 0.0
        self._restarted_s: dict[str, float] = {}
        self._next: Source | None = None
        self._stale = False
        self.image = self._made(strict=True)
        self._uptimes = [n for n in source.profile.points if "uptime" in n]
        rng = np.random.default_rng([seed, number, *name.encode()])
        self.faults = FaultPanel(self._sensors(), rng, ("any", "profile", self.protocol))

    @property
    def protocol(self) -> Protocol:
        """What it speaks."""
        return self.source.profile.protocol

    @property
    def profile(self) -> str:
        """Name of its profile, with version."""
        return self.source.title

    @property
    def registers(self) -> RegisterImage:
        """The image of a Modbus device, with values of now."""
        self.current()
        assert isinstance(self.image, RegisterImage), "only Modbus devices have registers"
        return self.image

    @property
    def typed(self) -> TypedImage:
        """The image of any other device, with values of now."""
        self.current()
        assert isinstance(self.image, TypedImage), "Modbus devices have registers"
        return self.image

    @property
    def up_s(self) -> float:
        """Seconds since it was switched on."""
        return self.age_s - self._since_s

    @property
    def away(self) -> bool:
        """Whether it has no power: it answers nothing and takes no connection."""
        return any(self.faults.size(kind) is not None for kind in _AWAY)

    @property
    def reading(self) -> Mapping[str, float]:
        """Numbers of all points that have one now."""
        self.current()
        found = {name: self.image.value(name) for name in self.source.profile.points}
        return {n: float(v) for n, v in found.items() if isinstance(v, int | float)}

    def _made(self, *, strict: bool) -> RegisterImage | TypedImage:
        source = self.source
        texts = {n: t for n, t in self._settings.items() if strict or n in source.profile.points}
        settings = settings_of(source.profile, texts)
        if source.profile.protocol == "modbus":
            return RegisterImage(
                source.profile, self._seed, settings=settings, firmware=source.firmware, hints=source.hints
            )
        return TypedImage(source.profile, self._seed, settings=settings, firmware=source.firmware)

    def _sensors(self) -> list[Sensor]:
        points = self.source.profile.points
        return [self._sensor(n, p) for n, p in points.items() if kind_of(p) is Kind.FLOAT or p.klass == "counter"]

    @staticmethod
    def _sensor(name: str, point: Point) -> Sensor:
        low, high = point.range or (0.0, 100.0)
        return Sensor(name, point.unit, low, high, point.resolution or 0.001)

    def tick(self, dt_s: float, wall_ns: int) -> None:
        """Moves the device `dt_s` seconds on; values are computed when somebody asks for them."""
        self.age_s += dt_s
        self.t_ns = round_to_step(wall_ns, MILLISECOND_NS)
        self._stale = True
        if self.faults:
            self._end_absence()
            self.faults.expire(self.age_s)
            self.current()

    def _end_absence(self) -> None:
        for fault in self.faults.on:
            if fault.kind in (*_AWAY, FaultKind.BROKER_LOSS):
                end_s = (
                    fault.since_s + (self.faults.size(fault.kind) or 0.0) if fault.until_s is None else fault.until_s
                )
                if self.age_s >= end_s:
                    self.faults.end(fault.kind)
                    if fault.kind in _AWAY:
                        self._restart(fault)

    def _restart(self, fault: Fault) -> None:
        self.starts += 1
        self._since_s = self.age_s
        for name in fault.points:
            self._restarted_s[name] = self.age_s
        if self._next is not None and fault.kind is FaultKind.FIRMWARE_UPDATE:
            self.source, self._next = self._next, None
            self._uptimes = [n for n in self.source.profile.points if "uptime" in n]
        self.image = self._made(strict=False)
        self._stale = True

    def current(self) -> None:
        """Brings the image to the device's age."""
        if not self._stale:
            return
        self._stale = False
        ages_s = {name: self.age_s - at_s for name, at_s in self._restarted_s.items()}
        ages_s |= dict.fromkeys(self._uptimes, self.up_s)
        self.image.refresh(self.age_s, ages_s or None)
        if any(self.faults.size(kind) is not None for kind in _DISTORTING):
            numbers = {s: v for s in self.faults.sensors if isinstance(v := self._number(s), float)}
            for name, value in self.faults.distort(numbers, self.age_s).items():
                if value != numbers[name]:
                    self.image.show(name, value)

    def _number(self, name: str) -> float | None:
        value = self.image.value(name) if name in self.source.profile.points else None
        return float(value) if isinstance(value, int | float) else None

    def next_sample(self) -> int:
        """Counts one more answer and returns its number, from 1; wraps as a uint32 does."""
        self.sample_no = (self.sample_no + 1) & 0xFFFFFFFF
        return self.sample_no

    def wrote(self, written: Written) -> None:
        """Keeps a client's write for `twinsim list`."""
        self.writes = [*self.writes[1 - WRITES_KEPT :], written]

    def inject(
        self, kind: str, *, point: str = "", size: float | None = None, for_s: float | None = None, to: str = ""
    ) -> Fault:
        """Begins a fault now; see `FaultPanel.switch_on`. Raises ConfigError for an update that leads nowhere."""
        if self.away and kind in _AWAY:
            raise ConflictError("NOT_READY", f"{self.name} is away already", hint="wait until it is back")
        following = updated(self.source, to) if kind == FaultKind.FIRMWARE_UPDATE and to else None
        reading = {name: value for name, value in self.reading.items() if name in self.faults.sensors}
        fault = self.faults.switch_on(
            kind, now_s=self.age_s, reading=reading, point=point, size=size, for_s=for_s, to=to
        )
        self._next = following or self._next
        self._stale = True
        return fault

    def check(
        self, kind: str, *, point: str = "", size: float | None = None, for_s: float | None = None, to: str = ""
    ) -> None:
        """Refuses what `inject` would refuse of a device that is not away, and begins nothing."""
        self.faults.check(kind, point=point, size=size, for_s=for_s, to=to)
        if to:
            updated(self.source, to)
