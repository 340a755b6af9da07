"""What is known of a Sparkplug edge node: its devices, its aliases, and how far its session has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinedge.drivers.decode import NOTHING
from twinedge.drivers.link import Columns, DeviceLink
from twinedge.drivers.mqtt_feed import Now
from twinedge.drivers.source_clock import MessageClock
from twinedge.drivers.sparkplug_metric import Binding
from twinmodel.clock import SECOND_NS
from twinmodel.quality import QualityReason, bad

REBIRTH_FIRST_NS, REBIRTH_MAX_NS = 5 * SECOND_NS, 300 * SECOND_NS
_STALE = bad(QualityReason.STALE)


@dataclass(frozen=True, slots=True)
class Saying:
    """One message to publish."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """What a birth told about a metric: its name, its type, and the point it feeds, if any."""

    name: str
    datatype: int
    binding: Binding | None


@dataclass(slots=True)
class Member:
    """One device of site.yaml: a device of a node, or the node itself.

    Attributes:
        bindings: metric's name -> point.
        clock: of what it publishes.
        metrics: metric's name -> what its birth told; empty before.
        born: whether a birth stands.
        stale: whether bad(STALE) was said since.
        good_ns: wall time of the newest message that was understood.
    """

    link: DeviceLink
    bindings: dict[str, Binding]
    clock: MessageClock
    metrics: dict[str, Metric] = field(default_factory=dict)
    born: bool = False
    stale: bool = False
    good_ns: int = 0

    def dies(self, now: Now, columns: Columns) -> None:
        """Makes all its signals stale, once."""
        self.born = False
        if not self.stale:
            self.stale = True
            signals = list(self.link.assignment.signals.values())
            for signal in signals:
                columns.add(signal, NOTHING[signal.kind], _STALE, now.wall_ns)
            self.link.count(len(signals))


@dataclass(slots=True)
class Node:
    """One edge node and its session.

    Attributes:
        members: device ("" for the node itself) -> device of site.yaml.
        others: devices of the node that are born and not of site.yaml.
        aliases: alias -> (device, metric); unique in a node.
        seq: number of the newest message, None before a birth and after a gap.
        bd_seq: number of the session, as birth and death carry it.
        lost: whether messages came that the standing birth does not explain.
        ask: whether a birth is to be asked for.
        ask_at_ns: boot time before which it is not asked again.
        births_due_ns: boot time at which devices without a birth since the node's are dead, 0 for none awaited.
    """

    group: str
    name: str
    members: dict[str, Member] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    aliases: dict[int, tuple[str, Metric]] = field(default_factory=dict)
    seq: int | None = None
    bd_seq: int | None = None
    lost: bool = False
    ask: bool = False
    ask_at_ns: int = 0
    pause_ns: int = REBIRTH_FIRST_NS
    births_due_ns: int = 0

    def fault(self, device: str, text: str) -> None:
        """Counts at a device, or at all of the node when it is nobody's of site.yaml."""
        member = self.members.get(device)
        for owner in [member] if member is not None else self.members.values():
            owner.link.fault(text)

    def forget(self) -> None:
        """Drops what births said."""
        self.aliases, self.others = {}, set()
