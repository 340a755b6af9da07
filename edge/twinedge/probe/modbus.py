"""`twinedge probe modbus`: units that answer, what they say of themselves, profiles that fit, a register in all orders.

    connect ─▶ which units answer ─▶ identification ─▶ profiles ─▶ the register asked for, three times

Reads only, one request at a time with a pause between them; `Plan` says what will be sent before anything is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinedge.config.address import ModbusAddress
from twinedge.drivers.modbus_frame import Refused, Request, Values
from twinedge.drivers.modbus_unit import traits_of
from twinedge.probe.modbus_ask import PAUSE_S, Asker, Told, absent, identification
from twinedge.probe.plausible import TYPES, as_text, best, candidates, finite, shown
from twinedge.probe.profiles import Known, Match, known_profiles
from twinmodel.clock import Clock
from twinmodel.errors import Exit, InputError, UnreachableError
from twinmodel.profile.address import RegisterAddress, parse_address, parse_type

READS: Final = 3
READ_PAUSE_S: Final = 0.3
IDENTIFY_MAX: Final = 8
REGISTERS: Final = 4
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A register to look at.

    Attributes:
        at: `holding 3060`, as the maker's document writes it.
        as_: its type, None to try all that fit.
        low_high: where the value is expected, after `scale`.
        base: whether the document counts from 0 or 1, None to try both.
    """

    at: str
    as_: str | None = None
    low_high: tuple[float, float] | None = None
    scale: float = 1.0
    base: int | None = None

    def check(self) -> None:
        """Raises InputError VALUE_INVALID for an address or a type that is none."""
        try:
            parse_address(self.at, self.base or 0)
            if self.as_ is not None:
                parse_type(self.as_)
        except ValueError as wrong:
            raise InputError("VALUE_INVALID", str(wrong)) from None


def plan_text(address: ModbusAddress, units: Sequence[int], questions: Sequence[Question], timeout_s: float) -> str:
    """What will be sent, said before it is."""
    many = f"units {units[0]}..{units[-1]}" if len(units) > 1 else f"unit {units[0]}"
    reads = READS * sum(1 if q.base is not None else 2 for q in questions)
    return (
        f"reads only: {many} at {address}, one request at a time, {PAUSE_S * 1000:.0f} ms apart, {timeout_s:g} s each; "
        f"function 3 at register 0 to find units, 43/14 and the `identify` of profiles, {reads} reads of registers"
    )


async def find_units(asker: Asker, units: Sequence[int], tell: Callable[[str], None]) -> tuple[list[int], str]:
    """The unit ids that answer, be it with an exception, and what a gateway said of another one, "" for nothing.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE when there is no connection.
    """
    found, said = [], ""
    probe = Request.read("holding", 0, 1)
    for place, unit in enumerate(units):
        told = await asker.ask(unit, probe)
        if not absent(told):
            found.append(unit)
        elif told is not None:
            said = told.text
        if len(units) > 16 and (place + 1) % 16 == 0:
            tell(f"asked {place + 1} of {len(units)} unit ids, {len(found)} answer")
    return found, said


async def probe_modbus(
    address: ModbusAddress,
    units: Sequence[int],
    questions: Sequence[Question],
    *,
    clock: Clock,
    timeout_s: float,
    profiles: Path | None,
    tell: Callable[[str], None],
) -> Json:
    """Everything the command says.

    Raises:
        UnreachableError: DEVICE_UNREACHABLE: no connection, or no unit answers.
    """
    for question in questions:
        question.check()
    tell(plan_text(address, units, questions, timeout_s))
    asker = Asker(address, clock, timeout_s)
    try:
        await asker.open()
        found, said = await find_units(asker, units, tell)
        if not found:
            raise _nobody(address, units, said)
        known = known_profiles("modbus", profiles)
        devices = []
        for place, unit in enumerate(found):
            document: Json = {"unit": unit}
            if place < IDENTIFY_MAX:
                document["identification"] = await identification(asker, unit)
                document["profiles"] = [m.document() for m in await identify(asker, unit, known)]
            document["values"] = [await _look(asker, unit, q) for q in questions] if place < IDENTIFY_MAX else []
            devices.append(document)
        told: Json = {"address": str(address), "units": devices, "requests": asker.requests}
        if len(found) == len(units) > 3:
            told["note"] = (
                "it answers under every unit id that was asked: it likely ignores it; use 1, or what its page says"
            )
        told["unnamed"] = sorted({k.profile.name for k in known if k.profile.identify is None})
        return told
    finally:
        asker.close()


def failed(document: Json) -> Exit:
    """The exit code: FAILED when a register that was asked for gave nothing."""
    values = [value for unit in document["units"] for value in unit["values"]]
    lost = [v for v in values if all("error" in block for block in v["blocks"])]
    return Exit.FAILED if lost else Exit.OK


async def identify(asker: Asker, unit: int, known: Sequence[Known]) -> list[Match]:
    """The profiles whose `identify` the unit meets; equal questions are asked once."""
    answers: dict[bytes, Told | None] = {}
    found = []
    for profile in known:
        traits = traits_of(profile.profile)
        texts = []
        for trait in traits:
            body = trait.request.body
            if body not in answers:
                answers[body] = await asker.ask(unit, trait.request)
            told = answers[body]
            if told is None or not isinstance(told.answer, Values):
                break
            wrong = trait.objection(trait.said(told.answer.raw))
            if wrong is not None:
                if trait.firmware:
                    found.append(Match(profile.name, sure=False, text=wrong[1].partition(";")[0]))
                break
            texts.append("its firmware too" if trait.firmware else f"it says {profile.profile.identify.match!r}")  # type: ignore[union-attr]  # it has traits
        else:
            if traits:
                found.append(Match(profile.name, sure=True, text=", ".join(texts)))
    return sorted(found, key=lambda m: not m.sure)


async def _look(asker: Asker, unit: int, question: Question) -> Json:
    """One register, read from the address as written and, where the base is not known, from the one before."""
    bases = [question.base] if question.base is not None else [0, 1]
    blocks = [await _block(asker, unit, question, base) for base in bases if _lies(question.at, base)]
    stars = [b["star"] for b in blocks if b.get("star")]
    top = max(stars, key=lambda s: s["score"], default=None)
    # Both bases often look fine: the one that is more plausible by a hair is no proof.
    close = [s for s in stars if top is not None and s is not top and top["score"] - s["score"] < 0.2]
    return {"at": question.at, "as": question.as_, "blocks": blocks, "star": top, "doubt": bool(close)}


def _lies(at: str, base: int) -> bool:
    try:
        parse_address(at, base)
    except ValueError:
        return False
    return True


async def _block(asker: Asker, unit: int, question: Question, base: int) -> Json:
    address = parse_address(question.at, base)
    block: Json = {"base": base, "address": address.number, "table": address.table}
    if address.single_bits or address.bit is not None:
        return block | await _bit(asker, unit, address)
    types = [question.as_] if question.as_ is not None else list(TYPES)
    counts = [parse_type(question.as_).registers] if question.as_ is not None else [REGISTERS, 2, 1]
    reads: list[tuple[int, ...]] = []
    told: Told | None = None
    for count in counts:
        if address.number + count > 1 << 16:
            continue
        told = await asker.ask(unit, Request.read(address.table, address.number, count))
        if told is not None and isinstance(told.answer, Values):
            reads.append(_registers(told.answer.raw))
            break
        if told is None or not isinstance(told.answer, Refused) or told.answer.code not in {2, 3}:
            break
    if not reads:
        return block | _failure(told)
    for _ in range(READS - 1):
        await asyncio.sleep(READ_PAUSE_S)
        again = await asker.ask(unit, Request.read(address.table, address.number, len(reads[0])))
        if again is not None and isinstance(again.answer, Values):
            reads.append(_registers(again.answer.raw))
    found = candidates(reads, types, question.low_high, question.scale)
    text = as_text(reads[-1]) if question.as_ is None else ""
    star = None if text else best(found)
    block["registers"] = [f"{cell:04X}" for cell in reads[-1]]
    block["text"] = text
    block["readings"] = [
        {"as": c.as_, "order": c.order, "value": finite(c.value), "shown": shown(c.value), "score": round(c.score, 3),
         "why": list(c.grounds), "star": c is star}
        for c in found
    ]  # fmt: skip
    if star is not None:
        block["star"] = {
            "as": star.as_, "order": star.order, "value": star.value, "shown": shown(star.value), "base": base,
            "score": round(star.score, 3), "why": list(star.grounds),
        }  # fmt: skip
    return block


async def _bit(asker: Asker, unit: int, address: RegisterAddress) -> Json:
    told = await asker.ask(unit, Request.read(address.table, address.number, 1))
    if told is None or not isinstance(told.answer, Values):
        return _failure(told)
    if address.single_bits:
        return {"bit": bool(told.answer.raw[0] & 1)}
    (cell,) = _registers(told.answer.raw)
    field = cell >> (address.bit or 0) & ((1 << address.width) - 1)
    return {"registers": [f"{cell:04X}"], "bit": bool(field) if address.width == 1 else field}


def _failure(told: Told | None) -> Json:
    if told is None:
        return {"error": "no reply", "hint": "raise --timeout; a unit that answered before may be slow here"}
    return {"error": told.text, "hint": told.hint}


def _registers(raw: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2))


def _nobody(address: ModbusAddress, units: Sequence[int], said: str) -> UnreachableError:
    many = f"none of the unit ids {units[0]}..{units[-1]} answers" if len(units) > 1 else f"unit {units[0]} is silent"
    hint = "wrong unit id? look further with --unit 1..247; behind a gateway check wiring, baud and parity of its line"
    if address.framing == "rtu":
        hint = "check baud, parity, stop bits and the two wires (swap A and B); then look further with --unit 1..247"
    if said:
        many += f": a gateway says {said}"
    return UnreachableError("DEVICE_UNREACHABLE", f"connected to {address}, but {many}", hint=hint)
