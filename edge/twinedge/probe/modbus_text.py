"""What `twinedge probe modbus` prints for people."""

from __future__ import annotations

from typing import Any

from twinedge.probe.plausible import ORDERS
from twinedge.probe.profiles import matches_text
from twinedge.probe.tables import table

Json = dict[str, Any]


def modbus_text(document: Json) -> str:
    """The report: units, who they are, and registers in all orders."""
    parts = [_unit(document, unit) for unit in document["units"]]
    if document.get("note"):
        parts.append(document["note"])
    if document["unnamed"] and not any(unit.get("profiles") for unit in document["units"]):
        parts.append(f"no `identify` to compare with in: {', '.join(document['unnamed'])}")
    return "\n\n".join(parts)


def _unit(document: Json, unit: Json) -> str:
    lines = [f"unit {unit['unit']} at {document['address']} answers"]
    if unit.get("identification"):
        lines += [f"  {key}: {text}" for key, text in unit["identification"].items()]
    elif "identification" in unit:
        lines.append("  it has no device identification (function 43/14)")
    if unit.get("profiles"):
        lines += ["  profiles that fit:", matches_text(unit["profiles"], indent="    ")]
    elif "profiles" in unit:
        lines.append("  no profile here names it by `identify`")
    for value in unit["values"]:
        lines += ["", *_value(value)]
    return "\n".join(lines)


def _value(value: Json) -> list[str]:
    lines: list[str] = []
    star = value["star"]
    readable = [block for block in value["blocks"] if "error" not in block]
    for block in readable or value["blocks"]:
        counted = f"counted from {block['base']}: address {block['address']} on the wire"
        head = f"  {value['at']}, {counted}"
        if "error" in block:
            lines += [f"{head}: {block['error']}", f"    {block['hint']}"]
        elif "bit" in block:
            lines.append(f"{head}: {block['bit']}")
        else:
            starred = block.get("star") if star is not None and star == block.get("star") else None
            lines += [f"{head}: {' '.join(block['registers'])}", _orders(block, starred)]
            if block["text"]:
                lines.append(f"    this is text: {block['text']!r}; see more of it with --as 'string(16)'")
    if star is not None:
        lines.append(f"  * {star['as']} {star['order']} = {star['shown']}: {', '.join(star['why'])}")
        if value["doubt"]:
            lines.append("    both ways of counting look plausible: give --range, or --base after the maker's document")
        written = (
            f"{{at: {value['at']}, as: {star['as']}{'' if star['order'] == 'ABCD' else ', order: ' + star['order']}}}"
        )
        lines.append(f"    in a profile: base: {star['base']}, {written}")
    elif any("readings" in block and not block["text"] for block in value["blocks"]):
        lines.append("  none stands out; give --as and --range, or read while the value moves")
    return lines


def _orders(block: Json, star: Json | None) -> str:
    by_type: dict[str, dict[str, Json]] = {}
    for reading in block["readings"]:
        by_type.setdefault(reading["as"], {})[reading["order"]] = reading
    rows = []
    for as_, orders in by_type.items():
        cells = [
            orders[o]["shown"] + (" *" if star and (star["as"], star["order"]) == (as_, o) else "") for o in ORDERS
        ]
        rows.append((as_, *cells))
    return table(("AS", *ORDERS), rows, indent="    ")
