"""What `twinedge probe mqtt` prints for people."""

from __future__ import annotations

from typing import Any, Final

from twinedge.probe.profiles import matches_text
from twinedge.probe.tables import pairs, table
from twinedge.probe.trust import described_text

Json = dict[str, Any]
TOPICS_SHOWN: Final = 40
FIELDS_SHOWN: Final = 12


def mqtt_text(document: Json) -> str:
    """The report: steps, certificate, the broker, topics, profiles."""
    parts = ["\n".join(f"ok  {step}" for step in document["steps"])] if document["steps"] else []
    certificate = document["certificate"]
    if certificate:
        state = "trusted" if certificate["trusted"] else "not trusted here"
        lines = "\n".join(f"  {line}" for line in described_text(certificate).splitlines())
        parts.append(f"the broker's certificate, {state}\n{lines}")
    if "topics" not in document:
        return "\n\n".join(parts)
    if document["system"]:
        parts.append(f"the broker\n{pairs(document['system'], indent='  ')}")
    parts.append(_topics(document))
    if document["sparkplug"]:
        parts.append("Sparkplug devices, as `root` writes them\n" + "\n".join(f"  {n}" for n in document["sparkplug"]))
    if document["profiles"]:
        parts.append(f"profiles that fit\n{matches_text(document['profiles'], indent='  ')}")
    elif document["topics"]:
        draft = f"twinedge browse mqtt {document['url']} --as-profile profile.yaml"
        parts.append(f"no profile here fits; draft one with `{draft}`, and who you are to the broker as here")
    return "\n\n".join(part for part in parts if part)


def _topics(document: Json) -> str:
    wanted = ", ".join(document["filters"])
    head = f"{document['messages']} messages in {document['listened_s']:g} s on {wanted}"
    if document["ended"]:
        head += f" (ended {document['ended']})"
    if not document["topics"]:
        return f"{head}: nothing; listen longer with --for, or ask whether this client may read the filter"
    shown = document["topics"][:TOPICS_SHOWN]
    lines = [head, table(("TOPIC", "RATE", "PAYLOAD", "BYTES", ""), [_row(t) for t in shown], indent="  ")]
    left = len(document["topics"]) - len(shown) + document["topics_left_out"]
    if left:
        lines.append(f"  and {left} more: narrow --filter, or -o json")
    if document["refused"]:
        lines.append(f"  refused by the broker: {', '.join(document['refused'])}")
    for topic in shown[:FIELDS_SHOWN]:
        if topic["fields"] and topic["payload"] not in {"number", "text"}:
            lines += ["", f"  {topic['topic']}", _fields(topic)]
    return "\n".join(lines)


def _row(topic: Json) -> tuple[str, str, str, str, str]:
    rate = f"{topic['rate_hz']:.3g}/s" if topic["rate_hz"] else "-"
    value = topic["fields"][0]["value"] if topic["fields"] and topic["payload"] in {"number", "text"} else ""
    mark = "retained" if topic["retained"] and topic["retained"] == topic["messages"] else ""
    return topic["topic"], rate, topic["payload"], str(topic["bytes"]), "  ".join(filter(None, (mark, str(value))))


def _fields(topic: Json) -> str:
    shown = topic["fields"][: 2 * FIELDS_SHOWN]
    rows = [(f["at"], f["value"], f["type"] or _time(f)) for f in shown]
    text = table(("AT", "VALUE", ""), rows, indent="    ")
    left = len(topic["fields"]) - len(shown)
    return f"{text}\n    and {left} more" if left else text


def _time(field: Json) -> str:
    if not field["time"]:
        return ""
    return "time" if field["time"] == "iso8601" else f"time in {field['time']}"
