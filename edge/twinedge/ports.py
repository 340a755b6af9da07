"""The contracts between stages of the agent; a stage imports these and no other stage.

device ─▶ Driver ─▶ Sink ─▶ gate ─▶ align ─▶ estimate ─▶ spool
             ▲                                             │
             └────────────── Delivery.done() ◀─────────────┘  after the commit
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from twinmodel.signal import Batch, Catalogue
from twinsync.command import Arguments, Value


@dataclass(frozen=True, slots=True)
class Delivery:
    """Batches that one driver hands over together.

    Attributes:
        device: name of the device (of the first one, when a delivery mixes devices of one connection).
        batches: columns of samples, in order of arrival.
        on_committed: called once, in the event loop, after the spool has committed every sample; the driver
            acknowledges towards its device then. It must not block and does not raise.
        urgent: the device sends no more until it is acknowledged (its in-flight window is half full): commit now
            rather than at the next sync.
    """

    device: str
    batches: tuple[Batch, ...]
    on_committed: Callable[[], None] | None = None
    urgent: bool = False

    def done(self) -> None:
        """Tells the driver that the spool has committed all of it; the agent calls it exactly once."""
        if self.on_committed is not None:
            self.on_committed()

    def __len__(self) -> int:
        return sum(len(b) for b in self.batches)


@dataclass(frozen=True, slots=True)
class NotAcquired:
    """A closed interval in which a device could not be asked; it declares the hole in history.

    A driver sends it when the device is back; while the device is away, its signals carry one sample of quality
    bad(NOT_CONNECTED) each.

    Attributes:
        device: name of the device in site.yaml.
        reason: reason of `twinmodel.errors`, such as DEVICE_UNREACHABLE.
        from_ns: wall time of the last good answer, or of the start when there was none.
        to_ns: wall time of the first good answer after it.
    """

    device: str
    reason: str
    from_ns: int
    to_ns: int


class Sink(Protocol):
    """Where drivers put what they read: a bounded queue."""

    async def put(self, item: Delivery | NotAcquired) -> None:
        """Waits while the queue is full (back-pressure); a cancelled put has handed over nothing."""
        ...


class Watcher(Protocol):
    """Looks at what goes into the lanes: alarms, and what is served on site. Called in the event loop."""

    def use(self, catalogue: Catalogue) -> None:
        """Another catalogue holds from now on; the ids of signals may differ."""
        ...

    def see(self, batches: Sequence[Batch]) -> None:
        """Samples after the gate, or what models say; must neither block nor raise, nor change them."""
        ...


@dataclass(frozen=True, slots=True)
class DeviceAlarm:
    """What a device says of an alarm of its own.

    Attributes:
        device: name in site.yaml.
        condition: the alarm's name within the device, the same as long as the device is.
        active: whether its condition holds.
        acked: whether somebody has acknowledged it at the device, or nothing is to be acknowledged any more.
        severity: 1 to 1000.
        text: what the device says.
        t_ns: when, by the device's clock.
    """

    device: str
    condition: str
    active: bool
    acked: bool
    severity: int
    text: str
    t_ns: int


@dataclass(frozen=True, slots=True)
class AlarmsRepeated:
    """Devices have said anew all that stands: what else stood of them has gone while nobody listened.

    Attributes:
        devices: names in site.yaml.
        standing: device and condition of what they said.
        t_ns: when.
    """

    devices: frozenset[str]
    standing: frozenset[tuple[str, str]]
    t_ns: int


@runtime_checkable
class AlarmSource(Protocol):
    """A driver whose devices raise alarms themselves."""

    def take_alarms(self) -> list[DeviceAlarm | AlarmsRepeated]:
        """What they said since the last call, oldest first."""
        ...


@runtime_checkable
class AlarmAnswering(Protocol):
    """A driver that can acknowledge an alarm where it was raised."""

    def answers(self, device: str) -> bool:
        """Whether the site wants alarms of this device acknowledged there."""
        ...

    async def acknowledge(self, device: str, condition: str, comment: str) -> str:
        """Tells a device that somebody has seen its alarm.

        Args:
            device: name in site.yaml.
            condition: see `DeviceAlarm`.
            comment: who it was, and what they said.

        Returns:
            What became of it, for people; "" where the device waits for nobody.

        Raises:
            ConflictError: ALARM_CHANGED; COMMAND_REFUSED_BY_DEVICE with the fact `code`.
            UnreachableError: DEVICE_UNREACHABLE, it was not told; COMMAND_UNANSWERED, nobody knows.
        """
        ...


@dataclass(frozen=True, slots=True)
class DriverHealth:
    """What one driver says about one device at a moment.

    Attributes:
        device: name in site.yaml.
        protocol: `modbus`, `opcua` or `mqtt`.
        connected: whether the last exchange succeeded.
        since_ns: wall time of the last change of `connected`.
        samples: samples handed over since the start.
        errors: failed requests, refused payloads and bad samples of the device's making, since the start.
        missed: poll cycles skipped because the one before took too long (polled protocols).
        reconnects: times the device came back.
        last_error: text of the newest error, "" for none.
        age_ns: boot-clock time since the last sample, None before the first.
        firmware: version the device told, "" where it was not asked.
        quarantine: reason it is not read although it answers, "" for none.
    """

    device: str
    protocol: str
    connected: bool
    since_ns: int
    samples: int
    errors: int
    missed: int
    reconnects: int
    last_error: str
    age_ns: int | None
    firmware: str = ""
    quarantine: str = ""


class Driver(Protocol):
    """One connection to one or several devices of one protocol."""

    @property
    def name(self) -> str:
        """Protocol and address, unique among the drivers of an agent; names the task."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices it serves."""
        ...

    async def run(self, sink: Sink) -> None:
        """Reads until cancelled; a device that is away never ends it.

        Cancelling it closes the connection; what was put into the sink stays there. A driver that acknowledges
        waits at most a few seconds for commits under way first: cancel drivers before the spool, and keep
        committing until `run` has returned.
        """
        ...

    def health(self) -> list[DriverHealth]:
        """One entry per device."""
        ...


BROKER_ONLY = "the broker took it; nothing proves that the device did"
"""What a method gives, and is told of a value, when only a broker has confirmed it."""

Permit = Callable[[], None]
"""Called right before a device is told something; raises what forbids it. From its return on the device may have it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a device shows at a point.

    Attributes:
        value: in the unit of the point; None where `quality` says that there is none.
        quality: as of a sample.
        t_ns: wall time of the answer.
    """

    value: Value
    quality: int
    t_ns: int


class Writer(Protocol):
    """A driver that can tell its devices something; one is called for one thing at a time.

    A call that fails before it called its permit has not touched the device. A device that refuses raises
    ConflictError COMMAND_REFUSED_BY_DEVICE with the fact `code`; after the permit anything else that is raised means
    that nobody knows. What the permit raises passes through.
    """

    def step(self, device: str, point: str, value: Value) -> float:
        """How finely the device can be told this value, in the unit of the point; 0 for exactly.

        Raises:
            InputError: COMMAND_INVALID, the value cannot be expressed.
        """
        ...

    async def write(self, device: str, point: str, value: Value, about: Mapping[str, Value], permit: Permit) -> str:
        """Tells a point its value.

        Args:
            device: name in site.yaml.
            point: of its profile, with `write:` rules.
            value: in the unit of the point.
            about: `id` and `issued`, for devices that are told these, too.
            permit: see `Permit`.

        Returns:
            Who confirmed it, for people: `the device`, `the broker`.

        Raises:
            UnreachableError: DEVICE_UNREACHABLE, COMMAND_UNANSWERED.
        """
        ...

    async def feed(self, device: str, point: str, beat: int, permit: Permit) -> None:
        """Feeds the watchdog that the rules of a point name, with the count `beat`; raises as `write`."""
        ...

    async def call(
        self, device: str, method: str, arguments: Sequence[Value], about: Mapping[str, Value], permit: Permit
    ) -> Arguments:
        """Calls a method; returns what it gives, None for nothing. Raises as `write`."""
        ...

    async def read(self, device: str, point: str) -> Shown | None:
        """What the device shows now; None where it cannot be asked, and only tells by itself.

        Raises:
            UnreachableError: DEVICE_UNREACHABLE.
        """
        ...
