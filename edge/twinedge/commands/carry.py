"""Tells a device what a command says, once, and finds out what came of it.

    write ─▶ answered ─▶ read back until it shows, or has had its time ─▶ SUCCEEDED | FAILED
      └────▶ nobody knows ─▶ read back once ─▶ SUCCEEDED if it shows now and did not before, else UNKNOWN

Nothing is ever written a second time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import structlog

from twinedge.commands.case import Case, Permission, Way
from twinedge.commands.readings import Readings
from twinedge.ports import BROKER_ONLY, Shown
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import TwinError
from twinmodel.quality import QualityClass, class_of, describe
from twinsync.command import Arguments, CommandState, CommandStep, Value

LOOK_AGAIN_S = 0.1
GRACE_S = 10.0
"""How long after its deadline a command that was sent is waited for."""
_log = structlog.get_logger(__name__)


class Carrier:
    """Carries out what was begun.

    Args:
        clock: the boot clock counts, the wall clock dates.
        readings: what points show by themselves, and what is noted of what was read.
        told: hears of steps before the last one.
    """

    def __init__(self, clock: Clock, readings: Readings, told: Callable[[Case, CommandState], None]) -> None:
        self._clock, self._readings, self._told = clock, readings, told

    async def carry_out(self, case: Case, way: Way) -> CommandState:
        """Does it; returns its end. A cancelled call leaves what became of it open."""
        step = math.nan
        try:
            if case.order.rule.value is not None:
                step = way.writer.step(case.order.rule.device, case.order.rule.name, case.order.value)
            left_s = max(case.order.due_ns - self._clock.boot_ns(), 0) / SECOND_NS
            async with asyncio.timeout(left_s + GRACE_S):
                return await self._done(case, way, step)
        except (TwinError, TimeoutError) as error:
            return await self._failed(case, way, step, error)
        except Exception as defect:  # noqa: BLE001  # it may have been told: nobody may believe that nothing happened
            _log.exception("command trips a defect", id=case.id, target=case.target)
            return await self._failed(case, way, step, TwinError("INTERNAL", f"{type(defect).__name__}: {defect}"))

    async def look(self, case: Case, way: Way, step: float) -> tuple[Value, bool]:
        """Reads back once: what the device shows, and whether that is what it was told."""
        shown = await self._shown(case, way)
        if shown is None or class_of(shown.quality) is not QualityClass.GOOD:
            return None, False
        self._readings.note(case.target, shown.value, shown.quality)
        return shown.value, self._alike(case, shown.value, step)

    def state(
        self, case: Case, step: CommandStep, reason: str = "", detail: str = "", read_back: Arguments = None
    ) -> CommandState:
        """A step, dated now."""
        return case.state(step, self._clock.wall_ns(), reason, detail, read_back)

    async def _done(self, case: Case, way: Way, step: float) -> CommandState:
        order, permit = case.order, Permission(case, self._readings, self._clock)
        rule = order.rule
        if rule.value is None:
            given = await way.writer.call(rule.device, rule.name, order.arguments, case.about, permit)
            detail = BROKER_ONLY if given == BROKER_ONLY else "the device has done it"
            return self.state(case, CommandStep.SUCCEEDED, "", detail, None if given == BROKER_ONLY else given)
        who = await way.writer.write(rule.device, rule.name, order.value, case.about, permit)
        return await self._verified(case, way, step, who)

    async def _verified(self, case: Case, way: Way, step: float, who: str) -> CommandState:
        """What the device shows once it has had its time; the first value that fits ends it."""
        sent_ns = self._clock.boot_ns()
        end_ns = sent_ns + case.order.rule.settle_ns
        shown: Shown | None = None
        while True:
            try:
                shown = await way.writer.read(case.order.rule.device, case.order.rule.name)
            except TwinError as away:
                detail = f"{who} confirmed it, and it cannot be read back: {away.message}"
                return self.state(case, CommandStep.UNKNOWN, "COMMAND_UNANSWERED", detail)
            shown = shown or self._heard(case, sent_ns)
            if shown is not None and class_of(shown.quality) is QualityClass.GOOD:
                self._readings.note(case.target, shown.value, shown.quality)
                if self._alike(case, shown.value, step):
                    detail = f"{who} confirmed it, and the device shows it"
                    return self.state(case, CommandStep.SUCCEEDED, "", detail, shown.value)
            if self._clock.boot_ns() >= end_ns:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        if shown is None:
            return self.state(case, CommandStep.SUCCEEDED, "", BROKER_ONLY)
        if class_of(shown.quality) is not QualityClass.GOOD:
            detail = f"{who} confirmed it, and what is read back is {describe(shown.quality)}"
            return self.state(case, CommandStep.UNKNOWN, "COMMAND_UNANSWERED", detail)
        detail = f"{who} confirmed {case.order.value}, the device shows {shown.value}"
        return self.state(case, CommandStep.FAILED, "COMMAND_NOT_TAKEN", detail, shown.value)

    async def _failed(self, case: Case, way: Way, step: float, error: TwinError | TimeoutError) -> CommandState:
        reason = error.reason if isinstance(error, TwinError) else "COMMAND_UNANSWERED"
        message = error.message if isinstance(error, TwinError) else "it took longer than its deadline and some"
        if not case.sent or reason == "COMMAND_REFUSED_BY_DEVICE":
            return self.state(case, CommandStep.FAILED, reason, message)
        if reason == "DEVICE_UNREACHABLE":
            reason = "COMMAND_UNANSWERED"
        unknown = self.state(case, CommandStep.UNKNOWN, reason, message)
        if case.order.rule.value is None:
            return unknown
        self._told(case, unknown)
        return await self.settled(case, way, step, unknown)

    async def settled(self, case: Case, way: Way, step: float, unknown: CommandState) -> CommandState:
        """An unknown end after one look at the device."""
        await asyncio.sleep(LOOK_AGAIN_S)
        value, alike = await self.look(case, way, step)
        if value is None:
            return unknown
        before = case.entry.before
        if alike and before is not None and not self._alike(case, before, step):
            detail = f"{unknown.detail}; the device shows the value it was to be told, and did not before"
            return self.state(case, CommandStep.SUCCEEDED, "", detail, value)
        detail = f"{unknown.detail}; the device shows {value}"
        return self.state(case, CommandStep.UNKNOWN, unknown.reason, detail, value)

    async def _shown(self, case: Case, way: Way) -> Shown | None:
        try:
            return await way.writer.read(case.order.rule.device, case.order.rule.name)
        except TwinError:
            return None
        except Exception:  # noqa: BLE001  # what became of a command is told, whatever reading back does
            _log.exception("reading back trips a defect", id=case.id, target=case.target)
            return None

    def _heard(self, case: Case, since_ns: int) -> Shown | None:
        """What a device that only tells by itself told since; that it told nothing, or nothing good, proves nothing."""
        reading = self._readings.newest(case.target)
        if reading is None or reading.boot_ns < since_ns or class_of(reading.quality) is not QualityClass.GOOD:
            return None
        return Shown(reading.value, reading.quality, self._clock.wall_ns())

    def _alike(self, case: Case, shown: Value, step: float) -> bool:
        wanted, rule = case.order.value, case.order.rule
        if isinstance(wanted, (bool, str)):
            return shown == wanted
        if not isinstance(shown, (int, float)) or not isinstance(wanted, (int, float)):
            return False
        tolerance = step if math.isnan(rule.tolerance) else rule.tolerance
        return abs(shown - wanted) <= (0.0 if math.isnan(tolerance) else tolerance) + 1e-12 * abs(wanted)
