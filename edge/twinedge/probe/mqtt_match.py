"""Which profiles read the topics that were heard, and below which root: a profile fits when its points are there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from twinedge.drivers.payload import PayloadError
from twinedge.drivers.payload_fields import follow
from twinedge.drivers.sparkplug import NAMESPACE
from twinedge.probe.mqtt_listen import Topic
from twinedge.probe.profiles import Known, Match
from twinmodel.profile.address import parse_json_path
from twinmodel.profile.schema import FirmwareProfile, Point
from twinmodel.profile.topics import CAPTURE, parse_payload_path

ROOTS_MAX: Final = 8
_KINDS: Final = {"number": "raw", "text": "raw"}


def fitting(topics: Mapping[str, Topic], known: Sequence[Known]) -> list[Match]:
    """The profiles at least half of whose points were heard, with the root of each device."""
    found: list[Match] = []
    for one in known:
        spark = one.profile.defaults.payload == "sparkplug"
        found += _sparkplug(topics, one) if spark else _of_profile(topics, one)
    return sorted(found, key=lambda m: not m.sure)


def nodes_of(topics: Mapping[str, Topic]) -> dict[str, dict[str, object]]:
    """Sparkplug devices that were heard: GROUP/NODE[/DEVICE] -> metrics of the births and data that came."""
    found: dict[str, dict[str, object]] = {}
    for name, topic in topics.items():
        levels = name.split("/")
        if levels[0] == NAMESPACE and len(levels) in {4, 5} and topic.payload.kind == "sparkplug":
            found.setdefault("/".join((levels[1], *levels[3:])), {}).update(topic.payload.fields)
    return found


def _sparkplug(topics: Mapping[str, Topic], known: Known) -> list[Match]:
    wanted = {p.at for p in known.profile.points.values()}
    found = []
    for root, metrics in sorted(nodes_of(topics).items())[:ROOTS_MAX]:
        there = len(wanted & metrics.keys())
        if 2 * there >= len(wanted):
            told = f"{there} of {len(wanted)} metrics were heard"
            found.append(Match(known.name, sure=there == len(wanted), text=told, root=root))
    return found


def _of_profile(topics: Mapping[str, Topic], known: Known) -> list[Match]:
    profile = known.profile
    counts: dict[str, int] = {}
    for name, point in profile.points.items():
        pattern = _pattern(profile, name, point)
        roots = set()
        for topic in topics.values():
            matched = pattern.fullmatch(topic.name)
            if matched is not None and _holds(profile, point, topic):
                roots.add(matched.groupdict().get("root") or "")
        for root in roots:
            counts[root] = counts.get(root, 0) + 1
    total = len(profile.points)
    found = []
    for root, there in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:ROOTS_MAX]:
        if 2 * there >= total:
            text = f"{there} of {total} points were heard"
            found.append(Match(known.name, sure=there == total, text=text, root=root))
    return found


def _pattern(profile: FirmwareProfile, name: str, point: Point) -> re.Pattern[str]:
    """The topics a point may come on; `root` is a group."""
    template = point.topic or profile.defaults.topic or ""
    made, at, named = "", 0, False
    for capture in CAPTURE.finditer(template):
        made += _plain(template[at : capture.start()])
        key = capture[1]
        if key == "root":
            made += "(?P=root)" if named else "(?P<root>.+)"
            named = True
        else:
            made += re.escape(name) if key == "point" else re.escape(point.where.get(key, "")) or "[^/]+"
        at = capture.end()
    return re.compile(made + _plain(template[at:]))


def _plain(text: str) -> str:
    return "".join("[^/]+" if c == "+" else ".*" if c == "#" else re.escape(c) for c in text)


def _holds(profile: FirmwareProfile, point: Point, topic: Topic) -> bool:
    kind = topic.payload.kind
    if _KINDS.get(kind, kind) != (point.payload or profile.defaults.payload):
        return False
    try:
        content = topic.payload.content
        each = point.each or profile.defaults.each
        if each is not None:
            samples = follow(content, parse_json_path(parse_payload_path(each.strip())))
            content = samples[0] if isinstance(samples, list) and samples else None
        follow(content, parse_json_path(parse_payload_path(point.at)))
    except PayloadError:
        return False
    return True
