"""From topics to points: the filters to subscribe to, which feeds a topic has, and what a Last Will silences."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from paho.mqtt.client import topic_matches_sub

from twinedge.drivers.link import DeviceLink
from twinedge.drivers.mqtt_feed import Feed, Watch
from twinedge.drivers.payload import PayloadError, parser
from twinedge.drivers.payload_fields import Field, Get, Shape, getter
from twinmodel.profile.address import parse_json_path
from twinmodel.profile.schema import Availability, FirmwareProfile, Point
from twinmodel.profile.topics import expand_topic
from twinmodel.signal import Signal

STALE_PERIODS = 3
TOPICS_MAX = 4096  # topics under wildcards that are remembered; a flood of new ones only costs the matching
_log = structlog.get_logger("twinedge.drivers")


class Presence:
    """What a device, or its Last Will, says about itself on a topic of its own.

    Attributes:
        link: the device.
        topic: where it says so.
        watches: of all its points.
    """

    def __init__(self, link: DeviceLink, said: Availability, topic: str, watches: list[Watch]) -> None:
        self.link, self.topic, self.watches = link, topic, watches
        self._words = {said.online: True, said.offline: False}
        self._whole = said.at.strip() == "$"
        self._get: Get = getter(parse_json_path(said.at))
        self._parse = parser("raw" if self._whole else "json")
        self._online: bool | None = None

    def heard(self, payload: bytes) -> list[Signal]:
        """The signals that are stale from now on."""
        try:
            word = self._get(self._parse(payload))
        except PayloadError as wrong:
            self.link.fault(f"{self.topic}: {wrong.message}")
            return []
        online = self._words.get(_text(word))
        if online is None:
            self.link.fault(f"{self.topic}: {_text(word)[:40]!r} is neither of {', '.join(self._words)}")
            return []
        before, self._online = self._online, online
        if online:
            if before is False:
                _log.info("device says it is back", device=self.link.name)
            return []
        if before is not False:
            _log.warning("device says it is offline", device=self.link.name, topic=self.topic)
        silent = [signal for watch in self.watches if not watch.stale for signal in watch.signals]
        for watch in self.watches:
            watch.stale = True
        return silent


def _text(word: object) -> str:
    if isinstance(word, str):
        return word
    return str(word).lower() if isinstance(word, bool) else str(word)


class Routes:
    """Everything that is read from one broker by topic.

    Attributes:
        watches: what may become stale.
    """

    def __init__(self, links: Sequence[DeviceLink]) -> None:
        self.watches: list[Watch] = []
        self._qos: dict[str, int] = {}
        self._exact: dict[str, list[Feed]] = {}
        self._wild: dict[str, list[Feed]] = {}
        self._presences: dict[str, list[Presence]] = {}
        self._known: dict[str, tuple[Feed, ...]] = {}
        for link in links:
            self._add_device(link)

    def filters(self) -> list[tuple[str, int]]:
        """Filters to subscribe to with their QoS; what a wider one covers is left out, or it would come twice."""
        wide = [text for text in self._qos if "+" in text or "#" in text]
        left: dict[str, int] = {}
        for text, qos in self._qos.items():
            covers = [w for w in wide if w != text and _covers(w, text)]
            widest = next((w for w in covers if not any(o != w and _covers(o, w) for o in covers)), text)
            left[widest] = max(qos, left.get(widest, 0))
        return sorted(left.items())

    def feeds(self, topic: str) -> tuple[Feed, ...]:
        """The feeds of one topic."""
        found = self._known.get(topic)
        if found is None:
            wild = [f for text, feeds in self._wild.items() if topic_matches_sub(text, topic) for f in feeds]
            found = (*self._exact.get(topic, ()), *wild)
            if len(self._known) >= TOPICS_MAX:
                self._known.clear()
            self._known[topic] = found
        return found

    def presences(self, topic: str) -> Sequence[Presence]:
        """The devices that say on this topic whether they are there."""
        return self._presences.get(topic, ())

    def _add_device(self, link: DeviceLink) -> None:
        profile = link.assignment.profile
        mine: list[Watch] = []
        made: dict[tuple[str, Shape, int], Feed] = {}
        for name, point in profile.points.items():
            filter_ = filter_of(link, name, point)
            shape, expect_ns = Shape.of(profile, point), expected_ns(profile, point)
            feed = made.get((filter_, shape, expect_ns))
            if feed is None:
                watch = Watch(link, [], expect_ns)
                feed = made[filter_, shape, expect_ns] = Feed(link, shape, watch)
                mine.append(watch)
                table = self._wild if "+" in filter_ or "#" in filter_ else self._exact
                table.setdefault(filter_, []).append(feed)
            field = Field(profile, point, link.assignment.signals[name])
            lone = Watch(link, [field.signal], expect_ns) if field.optional else None
            feed.add(field, lone)
            mine += [lone] if lone is not None else []
            qos = point.qos if point.qos is not None else profile.defaults.qos
            self._qos[filter_] = max(qos, self._qos.get(filter_, 0))
        self.watches += mine
        if profile.availability is not None:
            topic = expand_topic(profile.availability.topic, _known(link))
            self._presences.setdefault(topic, []).append(Presence(link, profile.availability, topic, mine))
            self._qos[topic] = 1


def filter_of(link: DeviceLink, name: str, point: Point) -> str:
    """The topic filter of a point: the captures that are known in their places."""
    profile = link.assignment.profile
    known = _known(link) | {"point": name} | dict(point.where)
    return expand_topic(point.topic or profile.defaults.topic or "", known)


def expected_ns(profile: FirmwareProfile, point: Point) -> int:
    """Longest silence that means nothing, 0 for any: only a declared period makes a silent point stale."""
    expect_ns = point.expect_every if point.expect_every is not None else profile.defaults.expect_every
    if expect_ns is not None:
        return expect_ns
    if "every" in profile.defaults.model_fields_set or point.every is not None or point.age is not None:
        return point.age or STALE_PERIODS * profile.every_ns(point)
    return 0


def at_most_once(profile: FirmwareProfile) -> bool:
    """Whether a broker forgets messages of such a device as it sends them: QoS 0, and Sparkplug by its rules."""
    return (
        profile.defaults.payload == "sparkplug"
        or profile.defaults.qos == 0
        or any(p.qos == 0 for p in profile.points.values())
    )


def _known(link: DeviceLink) -> dict[str, str]:
    return {"root": link.assignment.device.root, "device": link.name}


def _covers(wide: str, narrow: str) -> bool:
    """Whether every topic of one filter is one of the other."""
    if "#" in narrow and not wide.endswith("#"):
        return False
    return topic_matches_sub(wide, narrow.replace("#", "x/x"))
