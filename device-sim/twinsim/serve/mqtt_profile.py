"""MQTT devices made from profiles: one connection each, with the topics, payloads and births the profile has.

What counts as served: a message of QoS 1 whose PUBACK the broker has sent, one of QoS 0 that was written.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from google.protobuf.message import DecodeError
from paho.mqtt.enums import MQTTProtocolVersion

from twinmodel.clock import SECOND_NS
from twinmodel.profile.schema import Publish
from twinmodel.profile.topics import expand_topic
from twinsim.faults import FaultKind
from twinsim.image.codec import Value
from twinsim.image.device import ProfileDevice, Written
from twinsim.image.payloads import Message, Messages, presence
from twinsim.image.sparkplug import Node
from twinsim.serve.broker import Brand, broker, choose_brand
from twinsim.serve.mqtt import version_of
from twinsim.serve.mqtt_session import Session, address_of, online
from twinsim.served import ServedLog

CONNECT_TIMEOUT_S = 30.0
ROOT = "twinsim"
_log = structlog.get_logger(__name__)


class ProfilePublisher(Session):
    """One device on the broker."""

    def __init__(
        self, device: ProfileDevice, log: ServedLog | None, address: tuple[str, int], version: MQTTProtocolVersion
    ) -> None:
        super().__init__(device.name, address, version)
        self.device = device
        self._log = log
        self._starts = device.starts
        self._plan()

    def _plan(self) -> None:
        profile = self.device.source.profile
        sparkplug = profile.defaults.payload == "sparkplug"
        self._node: Node | None = Node(profile, self.device.name) if sparkplug else None
        self.device.root = self._node.root if self._node is not None else f"{ROOT}/{self.device.name}"
        self._messages = None if sparkplug else Messages(profile, self.device.root, self.device.name)
        known = {"root": self.device.root, "device": self.device.name}
        self._told: dict[str, list[tuple[str, Publish]]] = {}
        said = [(name, p.write.publish) for name, p in profile.points.items() if p.write is not None]
        for name, publish in [*said, *((name, m.publish) for name, m in profile.methods.items())]:
            if publish is not None:
                self._told.setdefault(expand_topic(publish.topic, known), []).append((name, publish))

    @property
    def silent(self) -> bool:
        """See `Session`."""
        faults = self.device.faults
        return bool(faults) and (faults.silent or self.device.away or faults.size(FaultKind.DEATH) is not None)

    def before_connect(self) -> None:
        """See `Session`."""
        if self.device.starts != self._starts:
            self._starts = self.device.starts
            self._plan()
        if self._node is not None:
            self.will(self._node.topic("NDEATH"), self._node.begin(), retain=False)
        else:
            said = self.device.source.profile.availability
            if said is not None:
                self.will(*presence(said, self.device.root, self.device.name, online=False), retain=True)

    def connected(self) -> None:
        """See `Session`."""
        if self._node is not None:
            self.subscribe(self._node.topic("NCMD"))
            self._bear()
            return
        for topic in self._told:
            self.subscribe(topic)
        self._say(online=True)

    def _say(self, *, online: bool) -> None:
        said = self.device.source.profile.availability
        if said is not None:
            topic, payload = presence(said, self.device.root, self.device.name, online=online)
            self.send(topic, payload, retain=True)

    def _bear(self) -> None:
        assert self._node is not None, "only nodes are born"
        device = self.device
        payload = self._node.birth(device.typed, self._t_ns())
        points = tuple(device.source.profile.points)
        self.send(self._node.topic("NBIRTH"), payload, 0, count=(device.next_sample(), self._t_ns(), points))

    def message(self, topic: str, payload: bytes) -> None:
        """See `Session`: what a device is told, and commands to a Sparkplug node."""
        if self._node is None:
            self._obey(topic, payload)
            return
        try:
            rebirth = self._node.command(payload, self._write)
        except DecodeError:
            _log.warning("command cannot be read", device=self.name, topic=topic)
            return
        if rebirth:
            _log.info("node is born anew", device=self.name)
            self._bear()

    def _obey(self, topic: str, payload: bytes) -> None:
        """Takes what the profile says is told on a topic: the value of a point, or the call of a method."""
        for name, publish in self._told.get(topic, ()):
            try:
                told = json.loads(payload)
            except ValueError:
                told = payload.decode(errors="replace")
            if name not in self.device.source.profile.points:
                self.device.wrote(Written(self.device.t_ns, self.name, name, json.dumps(told), 0))
                _log.info("method called", device=self.name, method=name, arguments=told)
                continue
            if isinstance(publish.payload, dict) and isinstance(told, dict):
                told = next((told.get(key) for key, text in publish.payload.items() if text == "{value}"), None)
            if isinstance(told, bool | int | float | str):
                point = self.device.source.profile.points[name]
                if isinstance(told, int | float) and not isinstance(told, bool):
                    told = told * float(point.scale or 1) + (point.offset or 0.0)
                self._write(name, told)

    def _write(self, point: str, value: Value) -> None:
        device, rules = self.device, self.device.source.profile.points[point].write
        limits = rules.range if rules is not None else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        refused = rules is None or (limits is not None and number and not limits[0] <= float(value) <= limits[1])
        device.wrote(Written(device.t_ns, self.name, point, value, int(refused)))
        _log.info("write refused" if refused else "write taken", device=self.name, point=point, value=value)
        if not refused:
            device.typed.hold(point, value)

    def farewell(self) -> None:
        """See `Session`."""
        if self._node is not None:
            self.send(self._node.topic("NDEATH"), self._node.death(), 0)
        else:
            self._say(online=False)

    def given_out(self, number: int, t_ns: int, points: tuple[str, ...]) -> None:
        """See `Session`."""
        if self._log is not None:
            self._log.add("mqtt", self.name, self.name, number, t_ns, points)

    def _t_ns(self) -> int:
        faults = self.device.faults
        ahead_s = (faults.size(FaultKind.FUTURE_CLOCK) or 0.0) - (faults.size(FaultKind.OLD_CLOCK) or 0.0)
        return max(0, self.device.t_ns + round(ahead_s * SECOND_NS))

    def publish(self) -> None:
        """Publishes what the device holds now, spoilt as its faults have it; breaks the connection of a dead one."""
        if self.silent:
            self.vanish()
        if not self.ready or self.device.starts != self._starts or self.device.faults.refusing:
            return
        device, faults, t_ns = self.device, self.device.faults, self._t_ns()
        retained = faults.size(FaultKind.RETAINED) is not None
        if self._node is not None:
            payload, points = self._node.data(device.typed, t_ns)
            made = [Message(self._node.topic("NDATA"), payload, 0, points)] if points else []
        else:
            assert self._messages is not None, "a device is a node or has messages"
            made = self._messages.make(device.typed, t_ns, (device.sample_no + 1) & 0xFFFFFFFF)
        for message in made:
            payload = _spoilt(message.payload) if faults.size(FaultKind.BAD_UTF8) is not None else message.payload
            count = (device.next_sample(), t_ns, message.points) if payload is message.payload else None
            self.send(message.topic, payload, message.qos, retain=retained, count=count)
        if made:
            self._overdo(made[0])

    def _overdo(self, message: Message) -> None:
        """Floods, and the payload that is far too large."""
        faults = self.device.faults
        for _ in range(int(faults.size(FaultKind.FLOOD) or 0)):
            self.send(message.topic, message.payload, 0)
        if (size := faults.size(FaultKind.HUGE)) is not None:
            self.send(message.topic, b"[" + b"0," * (int(size) // 2) + b"0]", 0)


def _spoilt(payload: bytes) -> bytes:
    """A payload whose text is no UTF-8 any more."""
    middle = len(payload) // 2
    return payload[:middle] + b"\xff\xfe\xc3\x28" + payload[middle:]


class MessageFleet:
    """Devices on one broker, and the broker where it is ours."""

    def __init__(
        self, publishers: Sequence[ProfilePublisher], state: Path, url: str, brand: Brand | None, child: AsyncExitStack
    ) -> None:
        self._by_name = {p.name: p for p in publishers}
        self._state, self._url, self._brand = state, url, brand
        self._child = child
        self._lost = False

    async def publish(self, device: ProfileDevice) -> None:
        """Publishes what one device holds now."""
        self._by_name[device.name].publish()

    async def after_tick(self) -> None:
        """Takes the broker away while a device has the fault that says so, and brings it back."""
        lost = any(p.device.faults.size(FaultKind.BROKER_LOSS) is not None for p in self._by_name.values())
        if lost == self._lost or self._brand is None:
            return
        self._lost = lost
        _log.info("broker goes away" if lost else "broker comes back", url=self._url)
        if lost:
            await self._child.aclose()
        else:
            port = urlsplit(self._url).port or 0
            await self._child.enter_async_context(broker(port, self._state, self._brand))


@asynccontextmanager
async def serve_messages(
    devices: Sequence[ProfileDevice],
    log: ServedLog | None,
    *,
    state: Path,
    port: int = 0,
    url: str | None = None,
    brand: Brand | None = None,
) -> AsyncIterator[MessageFleet]:
    """Connects devices to a broker, and sets the `address` and `root` of each, as site.yaml takes them.

    Args:
        devices: of MQTT profiles.
        log: where what was given out is written, None for nowhere.
        state: directory of the broker's files.
        port: of the broker that is started, 0 for any.
        url: of a broker that runs already.
        brand: of the one to start; None takes what is installed.

    Raises:
        ConflictError: PORT_IN_USE, EXTRA_MISSING.
        UnreachableError: DEVICE_UNREACHABLE when the broker does not take all of them within 30 s.
    """
    child = AsyncExitStack()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(child.aclose)
        mine: Brand | None = None
        if url is None:
            mine = brand or choose_brand()
            url = await child.enter_async_context(broker(port, state, mine))
        publishers = [ProfilePublisher(device, log, address_of(url), version_of(mine)) for device in devices]
        for publisher in publishers:
            publisher.device.address = url
        fleet = MessageFleet(publishers, state, url, mine, child)
        await stack.enter_async_context(online(publishers, url, CONNECT_TIMEOUT_S))
        yield fleet
