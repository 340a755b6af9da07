"""A profile drafted from topics that were heard: of one device below a root, or of one Sparkplug device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from twinedge.drivers.sparkplug import NAMESPACE
from twinedge.probe.draft import Draft, Value, name_of
from twinmodel.errors import InputError

_FORMATS: Final = {"json": "json", "cbor": "cbor", "msgpack": "msgpack", "number": "raw", "text": "raw"}
_PRESENCE: Final = {"online": "offline", "true": "false", "1": "0", "connected": "disconnected", "up": "down"}
_SPARKPLUG: Final = {"Float": "float32", "Double": "float64", "Boolean": "bool", "String": "string", "Text": "string"}
Json = dict[str, Any]


def draft_of(document: Json, root: str) -> tuple[Draft, str]:
    """The draft, and the `root` to write in site.yaml.

    Args:
        document: what `probe_mqtt` gave.
        root: beginning of the topics, of Sparkplug GROUP/NODE[/DEVICE]; "" for what all have in common.
    """
    spark = [t for t in document["topics"] if t["payload"] == "sparkplug"]
    topics = [t for t in document["topics"] if t["payload"] != "sparkplug"]
    if spark and (root in document["sparkplug"] or not topics):
        return _sparkplug(spark, document, root or document["sparkplug"][0])
    root = root.rstrip("/") or _common([t["topic"] for t in topics])
    below = [t for t in topics if t["topic"].startswith(f"{root}/") or t["topic"] == root or not root]
    if not below:
        raise InputError("VALUE_INVALID", f"nothing was heard below {root!r}", hint="listen longer, or give --path")
    draft = Draft("mqtt", document["url"])
    shapes = []
    for topic in below:
        if topic["payload"] not in _FORMATS:
            draft.left_out.append(f"{topic['topic']}: a payload that is {topic['payload']}")
            continue
        template = "{root}" + topic["topic"][len(root) :] if root else topic["topic"]
        if _presence(draft, topic, template):
            continue
        shapes += _points(draft, topic, template)
    _to_defaults(draft, shapes)
    return draft, root


def _points(draft: Draft, topic: Json, template: str) -> list[dict[str, Value]]:
    """The points of one topic; returns what each says about its message."""
    shape: dict[str, Value] = {"topic": template}
    if _FORMATS[topic["payload"]] != "json":
        shape["payload"] = _FORMATS[topic["payload"]]
    time = next((f for f in topic["fields"] if f["time"]), None)
    if time is not None:
        shape |= {"time": time["at"], "time_unit": time["time"]}
    leaf = topic["topic"].rpartition("/")[2]
    made = []
    for found in topic["fields"]:
        if time is not None and found["at"] == time["at"]:
            continue
        as_ = _type(found["value"])
        if as_ is None:
            draft.left_out.append(f"{topic['topic']} {found['at']}: null, its type is not known")
            continue
        name = name_of(found["at"].removeprefix("$")) if found["at"] != "$" else name_of(leaf)
        draft.add(name if name not in draft.points else f"{leaf}_{name}", {"at": found["at"], "as": as_} | shape)
        made.append(shape)
    return made


def _to_defaults(draft: Draft, shapes: Sequence[dict[str, Value]]) -> None:
    """What most points say of their message stands once, under `defaults`; a message without time cannot share one."""
    defaults: dict[str, Value] = {"every": "1s"}
    if shapes:
        common, _ = Counter(tuple(sorted((k, str(v)) for k, v in s.items())) for s in shapes).most_common(1)[0]
        shared = dict(common)
        if all(("time" in s) == ("time" in shared) for s in shapes):
            defaults |= shared
            for point in draft.points.values():
                for key, value in shared.items():
                    if point.get(key) == value:
                        del point[key]
                if "payload" in shared and "payload" not in point and "topic" in point:
                    point["payload"] = "json"
    draft.header = {"defaults": defaults} | draft.header


def _presence(draft: Draft, topic: Json, template: str) -> bool:
    """Whether a retained word on a topic of its own says that the device is there."""
    word = str(topic["fields"][0]["value"]).lower() if len(topic["fields"]) == 1 else ""
    said = topic["payload"] == "text" and topic["retained"] and word in {*_PRESENCE, *_PRESENCE.values()}
    if not said or "availability" in draft.header:
        return False
    online = word if word in _PRESENCE else next(k for k, v in _PRESENCE.items() if v == word)
    draft.header["availability"] = {"topic": template, "online": online, "offline": _PRESENCE[online]}
    return True


def _sparkplug(topics: Sequence[Json], document: Json, root: str) -> tuple[Draft, str]:
    draft = Draft("mqtt", document["url"], {"defaults": {"payload": "sparkplug", "every": "1s"}})
    seen = set()
    for topic in topics:
        levels = topic["topic"].split("/")
        if levels[0] != NAMESPACE or "/".join((levels[1], *levels[3:])) != root:
            continue
        for metric in topic["fields"]:
            name = metric["at"]
            if name in seen or name == "bdSeq" or name.startswith(("Node Control/", "Device Control/", "alias ")):
                continue
            seen.add(name)
            as_ = _SPARKPLUG.get(metric["type"]) or ("int64" if "Int" in metric["type"] else None)
            if as_ is None:
                draft.left_out.append(f"{name}: a {metric['type']} is not carried")
            else:
                draft.add(name, {"at": name, "as": as_})
    if not draft.points:
        hint = (
            "births come when the node connects: listen with --for 60 and restart the node, or wait for its next birth"
        )
        raise InputError("VALUE_INVALID", f"no birth of {root} was heard", hint=hint)
    return draft, root


def _type(value: object) -> str | None:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "float64"  # a whole number may be a fraction in the next message
    return "string" if isinstance(value, str) else None


def _common(topics: Sequence[str]) -> str:
    """The levels that all topics begin with, without their last one."""
    split = [t.split("/")[:-1] for t in topics]
    common: list[str] = []
    for levels in zip(*split, strict=False):
        if len(set(levels)) > 1:
            break
        common.append(levels[0])
    return "/".join(common)
