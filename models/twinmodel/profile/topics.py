"""Topics of MQTT profiles: filters with captures, and what Sparkplug names in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping

CAPTURE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TOPIC_BYTES_MAX = 65535
KNOWN = ("root", "device", "point")


def expand_topic(template: str, known: Mapping[str, str]) -> str:
    """A topic filter from a template: a capture becomes its known text, else one level of any text (`+`).

    `plants/{line}/{device}/{point}` with `{"device": "P-1", "point": "flow"}` is `plants/+/P-1/flow`.
    """
    return CAPTURE.sub(lambda found: known.get(found[1], "+"), template)


def parse_template(template: str) -> tuple[str, ...]:
    """Checks a template and returns the names of its captures. Raises ValueError.

    `{root}`, `{device}` and `{point}` may stand anywhere; another capture is a level of its own, as `+` is.
    """
    names = tuple(CAPTURE.findall(template))
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{template!r}: {{{name}}} is no capture; write e.g. {{line}}")
    rest = CAPTURE.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{template!r}: a brace stands alone; captures are written {{name}}")
    levels = template.split("/")
    for level in levels:
        for name in CAPTURE.findall(level):
            if name not in KNOWN and level != f"{{{name}}}":
                raise ValueError(f"{template!r}: {{{name}}} must be a level of its own")
    parse_filter(CAPTURE.sub("x", template))
    return names


def parse_filter(text: str) -> str:
    """Checks a topic filter (MQTT 5, 4.7). Raises ValueError."""
    levels = text.split("/")
    if any(("+" in x and x != "+") or ("#" in x and x != "#") for x in levels) or "#" in levels[:-1]:
        raise ValueError(f"{text!r} is no topic filter")
    if not text or "\0" in text or len(text.encode()) > TOPIC_BYTES_MAX:
        raise ValueError(f"{text[:80]!r} is no topic filter: empty, too long or with NUL")
    return text


def parse_topic(text: str) -> str:
    """Checks a template that names exactly one topic. Raises ValueError."""
    names = parse_template(text)
    if "+" in text or "#" in text or set(names) - {"root", "device"}:
        raise ValueError(f"{text!r} must be one topic: no + or #, no captures but {{root}} and {{device}}")
    return text


def parse_metric(text: str) -> str:
    """Checks the name of a Sparkplug metric. Raises ValueError."""
    if not text.strip() or len(text) > 1024:
        raise ValueError(f"{text[:80]!r} is no metric; write its name, e.g. Inputs/Flow")
    return text


def parse_node(root: str) -> tuple[str, str, str]:
    """`GROUP/EDGE_NODE[/DEVICE]` of a Sparkplug device, the last "" for the node itself. Raises ValueError."""
    parts = root.split("/")
    if len(parts) not in {2, 3} or not all(parts) or any(c in root for c in "+#\0"):
        raise ValueError(f"{root!r} is no Sparkplug device; write GROUP/EDGE_NODE or GROUP/EDGE_NODE/DEVICE")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else ""


def parse_payload_path(text: str) -> str:
    """A JSON path, of which `$$` starts at the whole payload where `each` would have it start at an element."""
    return text[1:] if text.startswith("$$") else text
