"""`twinedge browse modbus`: which registers of a unit can be read, and what they may mean."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from twinedge.config.address import ModbusAddress
from twinedge.drivers.modbus_frame import Refused, Request, Values
from twinedge.probe.draft import Draft
from twinedge.probe.modbus_ask import Asker, absent
from twinedge.probe.plausible import as_text, best, candidates, shown
from twinedge.probe.tables import table
from twinmodel.clock import Clock
from twinmodel.errors import InputError, UnreachableError
from twinmodel.profile.address import Table

BLOCK: Final = 32
SMALL: Final = 8
SPAN_MAX: Final = 2000
SURE: Final = 0.9
_SPAN: Final = re.compile(r"(holding|input)\s+(\d{1,5})\.\.(\d{1,5})")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """Registers to look at, counted from 0, the last one included."""

    table: Table
    first: int
    last: int


def span_of(text: str) -> Span:
    """Reads `holding 0..199`. Raises InputError."""
    found = _SPAN.fullmatch(text.strip())
    if found is None or not int(found[2]) <= int(found[3]) < min(1 << 16, int(found[2]) + SPAN_MAX):
        hint = f"write e.g. 'holding 0..199', counted from 0, at most {SPAN_MAX} registers"
        raise InputError("VALUE_INVALID", f"{text!r} is no range of registers", hint=hint)
    table_: Table = "holding" if found[1] == "holding" else "input"
    return Span(table_, int(found[2]), int(found[3]))


async def browse_modbus(
    address: ModbusAddress, unit: int, spans: list[Span], *, clock: Clock, timeout_s: float, within_s: float
) -> Json:
    """Reads blocks, halving those that the unit refuses; two reads apart tell what moves.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE: no connection, or the unit is silent.
    """
    asker = Asker(address, clock, timeout_s)
    cells: dict[tuple[Table, int], list[int]] = {}
    complete = True
    try:
        await asker.open()
        if absent(await asker.ask(unit, Request.read(spans[0].table, spans[0].first, 1))):
            probe = f"twinedge probe modbus {shlex.quote(address.url)} --unit 1..247"
            hint = f"find the unit ids that answer with `{probe}`"
            raise UnreachableError("DEVICE_UNREACHABLE", f"unit {unit} at {address} is silent", hint=hint)
        try:
            async with asyncio.timeout(within_s):
                for span in spans:
                    for first in range(span.first, span.last + 1, BLOCK):
                        await _block(asker, unit, span.table, first, min(first + BLOCK, span.last + 1), cells)
                for table_, first, last in _runs(cells):
                    told = await asker.ask(unit, Request.read(table_, first, last - first + 1))
                    if told is not None and isinstance(told.answer, Values):
                        _store(cells, table_, first, told.answer.raw)
        except TimeoutError:
            complete = False
    finally:
        asker.close()
    return {
        "address": str(address), "unit": unit, "complete": complete, "requests": asker.requests,
        "registers": list(_meanings(cells)),
    }  # fmt: skip


async def _block(
    asker: Asker, unit: int, table_: Table, first: int, end: int, cells: dict[tuple[Table, int], list[int]]
) -> None:
    told = await asker.ask(unit, Request.read(table_, first, end - first))
    if told is None:
        return
    if isinstance(told.answer, Values):
        _store(cells, table_, first, told.answer.raw)
    elif isinstance(told.answer, Refused) and told.answer.code in {2, 3} and end - first > 1:
        if end - first == SMALL and not await _any(asker, unit, table_, (first, first + SMALL // 2)):
            return
        middle = (first + end) // 2
        await _block(asker, unit, table_, first, middle, cells)
        await _block(asker, unit, table_, middle, end, cells)


async def _any(asker: Asker, unit: int, table_: Table, places: tuple[int, ...]) -> bool:
    """Whether one of the registers can be read: an empty stretch is not worth a question for each of its registers."""
    for place in places:
        told = await asker.ask(unit, Request.read(table_, place, 1))
        if told is not None and isinstance(told.answer, Values):
            return True
    return False


def _store(cells: dict[tuple[Table, int], list[int]], table_: Table, first: int, raw: bytes) -> None:
    for place in range(len(raw) // 2):
        value = int.from_bytes(raw[2 * place : 2 * place + 2], "big")
        cells.setdefault((table_, first + place), []).append(value)


def _runs(cells: dict[tuple[Table, int], list[int]]) -> Iterator[tuple[Table, int, int]]:
    """Readable registers side by side, at most a block long."""
    places = sorted(cells)
    start = 0
    for at in range(1, len(places) + 1):
        whole = at < len(places) and places[at] == (places[at - 1][0], places[at - 1][1] + 1) and at - start < BLOCK
        if not whole:
            yield places[start][0], places[start][1], places[at - 1][1]
            start = at


def _meanings(cells: dict[tuple[Table, int], list[int]]) -> Iterator[Json]:
    """Registers in order; two that are surely one float, and text, stand together."""
    for table_, first, last in _runs(cells):
        at = first
        while at <= last:
            reads = list(zip(*(cells[table_, n] for n in range(at, last + 1)), strict=False))
            found: Json = {
                "at": f"{table_} {at}",
                "registers": 1,
                "as": "uint16",
                "order": "ABCD",
                "value": reads[-1][0],
            }
            text = as_text(reads[-1][: min(8, last - at + 1)])
            star = best(candidates([r[:2] for r in reads], ["float32"], None)) if at < last else None
            if text and reads[-1][0] > 0x2020:
                size = (len(text) + 1) // 2
                found |= {"registers": size, "as": f"string({2 * size})", "value": text}
            elif star is not None and star.score >= SURE:
                found |= {"registers": 2, "as": "float32", "order": star.order, "value": star.value}
            found["raw"] = " ".join(f"{c:04X}" for c in reads[-1][: found["registers"]])
            found["moves"] = len({r[: found["registers"]] for r in reads}) > 1
            at += found["registers"]
            yield found


def registers_text(document: Json) -> str:
    """For people; runs of zeros are left out."""
    registers = document["registers"]
    rows = [
        (
            r["at"],
            r["raw"],
            r["as"],
            "" if r["order"] == "ABCD" else r["order"],
            shown(r["value"]),
            "moves" if r["moves"] else "",
        )
        for r in registers
        if r["value"] != 0
    ]
    zeros = len(registers) - len(rows)
    head = f"unit {document['unit']} at {document['address']}: {len(registers)} values can be read, {zeros} of them 0"
    end = "" if document["complete"] else "\nnot all of it: raise --within"
    return f"{head}\n{table(('AT (from 0)', 'REGISTERS', 'LIKELY', 'ORDER', 'VALUE', ''), rows)}{end}"


def draft_of(document: Json) -> Draft:
    """A profile of everything that can be read; a guess of types that a person must check."""
    origin = f"modbus {document['address']} unit {document['unit']}"
    draft = Draft("modbus", origin, {"base": 0, "defaults": {"every": "1s"}})
    for register in document["registers"]:
        keys = {"at": register["at"], "as": register["as"]}
        if register["order"] != "ABCD":
            keys["order"] = register["order"]
        draft.add(register["at"], keys)
    return draft
