"""Sparkplug B consumer: births, aliases, sequence numbers, deaths, and the request of a new birth.

    unborn ──NBIRTH──▶ born ──(sequence gap, unknown alias, data of an unborn device)──▶ lost ──NBIRTH──▶ born
       ▲                 └──NDEATH of the same bdSeq──┐                                    │
       └──────────────────────────────────────────────┴────────────────────────────────────┘

In `lost` nothing is taken: the message that is missing may have been a birth that gave the aliases another meaning,
and a value under another's name is worse than none. Signals are STALE from the gap to the birth, and the time between
is declared. A request of a birth (NCMD `Node Control/Rebirth`) is a word of the protocol and writes to no point; it is
repeated at growing distances while messages come that cannot be understood, and a site may switch it off.

Sans-I/O: `receive` takes messages, `outgoing` and `taken` say what is to be sent and declared.
Source: Sparkplug 3.0 specification, clauses 4 (topics), 5 (session) and 6.4 (payloads).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import structlog

from twinedge.drivers.decode import DECODE, NOTHING
from twinedge.drivers.link import Columns, DeviceLink
from twinedge.drivers.mqtt_feed import Now
from twinedge.drivers.mqtt_wire import Arrival
from twinedge.drivers.payload import PayloadError
from twinedge.drivers.payload_fields import TIME_MAX_NS, TIME_MIN_NS
from twinedge.drivers.source_clock import MessageClock
from twinedge.drivers.sparkplug_metric import BOOLEAN, Binding, carried, name_of, read_payload, type_name
from twinedge.drivers.sparkplug_node import REBIRTH_FIRST_NS, REBIRTH_MAX_NS, Member, Metric, Node, Saying
from twinedge.ports import NotAcquired
from twinmodel.clock import MILLISECOND_NS, SECOND_NS, round_to_step
from twinmodel.profile.topics import parse_node
from twinmodel.quality import GOOD, QualityReason, good, uncertain
from twinsync.v1.sparkplug_pb2 import SparkplugMetric, SparkplugPayload

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
BD_SEQ = b"bdSeq"
SEQ_COUNT = 256
ALIASES_MAX = 100_000
BIRTHS_NS = 5 * SECOND_NS  # devices follow their node's birth at once
_CLOCK = uncertain(QualityReason.CLOCK)
_OLD = good(QualityReason.BACKFILLED)
_log = structlog.get_logger("twinedge.drivers")


class SparkplugHost:
    """The consumer of all Sparkplug devices behind one broker.

    Args:
        links: the devices; `root` is GROUP/EDGE_NODE[/DEVICE].
        host: identifier of a primary host application, None to publish no state.
        rebirth: whether births may be asked for.
    """

    def __init__(self, links: Sequence[DeviceLink], host: str | None, *, rebirth: bool) -> None:
        self._host, self._rebirth = host, rebirth
        self._nodes: dict[tuple[str, str], Node] = {}
        self._outgoing: list[Saying] = []
        self._taken: list[NotAcquired] = []
        self._state_ms = 0
        self._announce = False
        for link in links:
            group, name, device = parse_node(link.assignment.device.root)
            node = self._nodes.setdefault((group, name), Node(group, name))
            points = link.assignment.profile.points
            signals = link.assignment.signals
            node.members[device] = Member(
                link, {p.at: Binding.of(p, signals[n]) for n, p in points.items()}, MessageClock(link.name)
            )

    def filters(self) -> list[tuple[str, int]]:
        """Filters to subscribe to, with QoS: all of a node, as its devices share its sequence numbers."""
        return [(f"{NAMESPACE}/{group}/+/{name}/#", 1) for group, name in sorted(self._nodes)]

    def wants(self, topic: str) -> bool:
        """Whether a topic belongs to Sparkplug."""
        return bool(self._nodes) and topic.startswith(f"{NAMESPACE}/")

    def will(self, wall_ns: int) -> Saying | None:
        """The state of this host when it is away, None for a host that publishes none."""
        if self._host is None:
            return None
        self._state_ms = wall_ns // MILLISECOND_NS
        return self._state(online=False)

    def connected(self) -> None:
        """A new connection: what was published meanwhile is not known, so every node is asked for its birth."""
        self._announce = self._host is not None
        for node in self._nodes.values():
            node.seq, node.lost, node.ask_at_ns, node.pause_ns = None, True, 0, REBIRTH_FIRST_NS
            node.ask = True

    def outgoing(self, boot_ns: int, wall_ns: int) -> list[Saying]:
        """What to publish now."""
        said = []
        if self._announce:
            self._announce = False
            said.append(self._state(online=True))
        for node in self._nodes.values():
            if node.ask and boot_ns >= node.ask_at_ns:
                node.ask = False
                node.ask_at_ns, node.pause_ns = boot_ns + node.pause_ns, min(2 * node.pause_ns, REBIRTH_MAX_NS)
                if self._rebirth:
                    said.append(_rebirth(node, wall_ns // MILLISECOND_NS))
        return said

    def due_ns(self) -> int | None:
        """Boot time at which `late` or `outgoing` has something to do although nothing came."""
        due = [n.births_due_ns for n in self._nodes.values() if n.births_due_ns]
        return min(due + [n.ask_at_ns for n in self._nodes.values() if n.ask], default=None)

    def late(self, now: Now, columns: Columns) -> None:
        """Makes devices stale whose birth did not follow their node's."""
        for node in self._nodes.values():
            if node.births_due_ns and now.boot_ns >= node.births_due_ns:
                node.births_due_ns = 0
                for member in node.members.values():
                    if not member.born:
                        member.dies(now, columns)

    def taken(self) -> list[NotAcquired]:
        """Holes that have closed."""
        taken, self._taken = self._taken, []
        return taken

    def receive(self, arrival: Arrival, now: Now, columns: Columns) -> None:
        """Takes one message and adds the samples in it to the columns; never raises."""
        levels = arrival.topic.split("/")
        if len(levels) not in {4, 5} or (node := self._nodes.get((levels[1], levels[3]))) is None:
            return
        kind, device = levels[2], levels[4] if len(levels) == 5 else ""
        if kind not in _KINDS or (kind[0] == "N") != (device == ""):
            return
        if arrival.retain:
            node.fault(device, f"{kind} is retained: nobody knows of when")
            return
        try:
            payload = read_payload(arrival.payload, arrival.size)
        except PayloadError as wrong:
            node.fault(device, f"{kind}: {wrong.message} ({wrong.reason})")
            if kind != "NDEATH":
                self._lose(node, now, columns, f"a {kind} that cannot be read")
                return
            payload = SparkplugPayload()
        if kind == "NDEATH":
            _node_dies(node, payload, now, columns)
        elif kind == "NBIRTH":
            self._node_is_born(node, payload, now, columns)
        elif self._follows(node, payload, now, columns, kind):
            self._device_says(node, kind, device, payload, now, columns)

    def _device_says(
        self, node: Node, kind: str, device: str, payload: SparkplugPayload, now: Now, columns: Columns
    ) -> None:
        """A message in sequence that is neither birth nor death of the node."""
        member = node.members.get(device)
        if kind == "DBIRTH":
            if member is None:
                self._alias(node, device, payload)
                if len(node.others) < ALIASES_MAX:
                    node.others.add(device)
            else:
                self._is_born(node, device, member, payload, now, columns)
        elif kind == "DDEATH":
            node.others.discard(device)
            if member is not None:
                member.dies(now, columns)
        elif member is None:
            if device and device not in node.others:
                self._lose(node, now, columns, f"data of {device!r} before its birth")
        elif not member.born:
            self._lose(node, now, columns, f"{kind} before a birth")
        else:
            self._data(node, device, member, payload, now, columns)

    def _follows(self, node: Node, payload: SparkplugPayload, now: Now, columns: Columns, kind: str) -> bool:
        """Whether a message is the next one of a session that stands."""
        if node.lost or node.seq is None:
            self._lose(node, now, columns, f"{kind} without the birth of its node")
            return False
        expected = (node.seq + 1) % SEQ_COUNT
        if not payload.HasField("seq") or payload.seq != expected:
            found = payload.seq if payload.HasField("seq") else "none"
            self._lose(node, now, columns, f"sequence number {found} follows {node.seq}")
            return False
        node.seq = expected
        return True

    def _lose(self, node: Node, now: Now, columns: Columns, why: str) -> None:
        """The session cannot be followed any more: signals are stale, and a birth is asked for."""
        node.ask = True
        if not node.lost:
            node.lost, node.seq = True, None
            _log.warning("sparkplug session lost", node=f"{node.group}/{node.name}", why=why, asks=self._rebirth)
            for member in node.members.values():
                member.link.fault(why)
        for member in node.members.values():
            member.dies(now, columns)

    def _node_is_born(self, node: Node, payload: SparkplugPayload, now: Now, columns: Columns) -> None:
        again = node.lost and any(m.good_ns for m in node.members.values())
        node.forget()
        node.seq = payload.seq if payload.HasField("seq") and payload.seq < SEQ_COUNT else 0
        node.bd_seq = _bd_seq(payload)
        node.lost = node.ask = False
        node.pause_ns, node.ask_at_ns = REBIRTH_FIRST_NS, 0
        for member in node.members.values():
            member.born = False  # its own birth follows
        node.births_due_ns = now.boot_ns + BIRTHS_NS
        if again:
            _log.info("sparkplug session is back", node=f"{node.group}/{node.name}")
        node_itself = node.members.get("")
        if node_itself is None:
            self._alias(node, "", payload)
        else:
            self._is_born(node, "", node_itself, payload, now, columns)

    def _is_born(
        self, node: Node, device: str, member: Member, payload: SparkplugPayload, now: Now, columns: Columns
    ) -> None:
        if member.stale and member.good_ns and member.good_ns < now.wall_ns:
            self._taken.append(NotAcquired(member.link.name, "DEVICE_UNREACHABLE", member.good_ns, now.wall_ns))
        member.metrics = self._alias(node, device, payload, member)
        member.born, member.stale = True, False
        refused = {
            m.name: type_name(m.datatype) for m in member.metrics.values() if m.binding and not carried(m.datatype)
        }
        missing = sorted(set(member.bindings) - set(member.metrics))
        if refused or missing:
            device_name = member.link.name
            _log.warning("sparkplug birth lacks points", device=device_name, refused=refused, missing=missing[:20])
            if missing:
                member.link.fault(f"the birth has no metric {missing[0]!r} ({len(missing)} points are missing)")
        for name in missing:
            signal = member.bindings[name].signal
            columns.add(signal, NOTHING[signal.kind], DECODE, now.wall_ns)
        self._data(node, device, member, payload, now, columns)

    def _alias(
        self, node: Node, device: str, payload: SparkplugPayload, member: Member | None = None
    ) -> dict[str, Metric]:
        """Learns names, types and aliases of a birth; what the device's older births said of aliases is forgotten."""
        for alias in [a for a, (owner, _) in node.aliases.items() if owner == device]:
            del node.aliases[alias]
        known: dict[str, Metric] = {}
        for metric in payload.metrics:
            try:
                name = name_of(metric)
            except PayloadError as wrong:
                node.fault(device, wrong.message)
                name = ""  # no point's name, but its alias is known
            binding = member.bindings.get(name) if member is not None else None
            told = _NOBODYS
            if binding is not None:
                told = known[name] = Metric(name, metric.datatype, binding)
            if metric.HasField("alias") and len(node.aliases) < ALIASES_MAX:
                node.aliases[metric.alias] = (device, told)
        return known

    def _data(
        self, node: Node, device: str, member: Member, payload: SparkplugPayload, now: Now, columns: Columns
    ) -> None:
        """Samples of the metrics that points want."""
        found: list[tuple[SparkplugMetric, Metric | None]] = []
        for metric in payload.metrics:
            if metric.HasField("alias"):
                owner, told = node.aliases.get(metric.alias, (None, None))
                if owner != device:
                    # Nothing of the message is taken: its other aliases may have got another meaning too.
                    self._lose(node, now, columns, f"alias {metric.alias} is not of the birth")
                    return
                found.append((metric, told))
            else:
                found.append((metric, member.metrics.get(metric.name.decode(errors="replace"))))
        before = len(columns)
        member.good_ns = now.wall_ns
        for metric, told in found:
            if told is not None and told.binding is not None:
                _sample(member, told, metric, payload, now, columns)
        member.link.count(len(columns) - before)

    def _state(self, *, online: bool) -> Saying:
        body = json.dumps({"online": online, "timestamp": self._state_ms}).encode()
        return Saying(f"{NAMESPACE}/STATE/{self._host}", body, qos=1, retain=True)


_NOBODYS = Metric("", 0, None)  # names of metrics that no point wants are not kept: there may be thousands
_KINDS = frozenset({"NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"})


def _node_dies(node: Node, payload: SparkplugPayload, now: Now, columns: Columns) -> None:
    """A death counts for the session whose bdSeq it carries: the will of an older connection comes late."""
    bd_seq = _bd_seq(payload)
    if bd_seq is not None and node.bd_seq is not None and bd_seq != node.bd_seq:
        return
    _log.warning("sparkplug node died", node=f"{node.group}/{node.name}")
    node.seq, node.bd_seq, node.lost, node.ask = None, None, True, False
    node.forget()
    for member in node.members.values():
        member.dies(now, columns)


def _sample(
    member: Member, told: Metric, metric: SparkplugMetric, payload: SparkplugPayload, now: Now, columns: Columns
) -> None:
    binding = told.binding
    assert binding is not None, "the caller asks for metrics that feed a point"
    stamp_ms = metric.timestamp or payload.timestamp
    t_ns, mark = stamp_ms * MILLISECOND_NS, GOOD
    link = member.link
    if TIME_MIN_NS <= t_ns < TIME_MAX_NS and (
        member.clock.may_be(t_ns, now.wall_ns)
        if metric.is_historical
        else member.clock.believes(t_ns, now.wall_ns, now.boot_ns)
    ):
        t_ns = round_to_step(t_ns, link.assignment.time_step_ns)
        mark = _OLD if metric.is_historical else GOOD
    else:
        t_ns, mark = now.wall_ns, _CLOCK
    try:
        value, quality = binding.read(metric, metric.datatype or told.datatype)
    except PayloadError as wrong:
        link.fault(f"{told.name}: {wrong.message} ({wrong.reason})")
        value, quality = NOTHING[binding.signal.kind], DECODE
    columns.add(binding.signal, value, quality or mark, t_ns)


def _bd_seq(payload: SparkplugPayload) -> int | None:
    for metric in payload.metrics:
        if metric.name == BD_SEQ:
            return metric.long_value or metric.int_value
    return None


def _rebirth(node: Node, now_ms: int) -> Saying:
    payload = SparkplugPayload(timestamp=now_ms)
    payload.metrics.add(name=REBIRTH.encode(), timestamp=now_ms, datatype=BOOLEAN, boolean_value=True)
    return Saying(f"{NAMESPACE}/{node.group}/NCMD/{node.name}", payload.SerializeToString())
