"""A value that is held: written once, and the device's own watchdog fed as long as the hold may last.

The device falls back by itself when nothing feeds it: an agent that is dead, cut off or stuck cannot hold anything.
"""

from __future__ import annotations

import asyncio

from twinedge.commands import guard
from twinedge.commands.carry import Carrier
from twinedge.commands.case import Case, Permission, Way
from twinedge.commands.readings import Readings
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, TwinError, UnreachableError
from twinsync.command import CommandState, CommandStep

FEEDS = 3
"""How often a watchdog is fed within its time."""
BEAT_MAX = 65_535


class Holder:
    """Feeds watchdogs; one `hold` a held point."""

    def __init__(self, clock: Clock, readings: Readings, carrier: Carrier) -> None:
        self._clock, self._readings, self._carrier = clock, readings, carrier

    async def hold(self, case: Case, way: Way, turn: asyncio.Lock, shown: CommandState) -> CommandState:
        """Feeds until the hold ends; returns its end.

        Args:
            case: a hold whose value is written.
            way: how the device is reached.
            turn: of its connection.
            shown: what was found when it was written.
        """
        rule = case.order.rule
        began_ns = fed_ns = self._clock.boot_ns()
        beat = 0
        while True:
            try:
                self._may_go_on(case)
                if self._clock.boot_ns() >= case.order.due_ns:
                    detail = f"held for {self._held_s(began_ns):.0f} s, until its deadline; {self._then(case)}"
                    return self._carrier.state(case, CommandStep.SUCCEEDED, "", detail, shown.read_back)
                beat = beat % BEAT_MAX + 1
                if not await self._fed(case, way, turn, beat):
                    continue
                fed_ns = self._clock.boot_ns()
            except TwinError as ended:
                lost = self._clock.boot_ns() - fed_ns < rule.watchdog_ns
                if isinstance(ended, UnreachableError) and lost:
                    await self._wait(case, rule.watchdog_ns // (4 * FEEDS))
                    continue
                detail = f"{ended.message}; held for {self._held_s(began_ns):.0f} s, {self._then(case)}"
                return self._carrier.state(case, CommandStep.FAILED, ended.reason, detail, shown.read_back)
            await self._wait(case, rule.watchdog_ns // FEEDS)

    def _may_go_on(self, case: Case) -> None:
        case.check()
        if why := self._readings.frozen():
            raise ConflictError("COMMAND_FROZEN", f"nothing is commanded: {why}")
        guard.check_interlocks(case.order.rule, self._readings, self._clock.boot_ns())

    async def _fed(self, case: Case, way: Way, turn: asyncio.Lock, beat: int) -> bool:
        """Feeds once; False when the deadline came while it waited for its turn."""
        rule, permit = case.order.rule, Permission(case, self._readings, self._clock)
        try:
            async with turn, asyncio.timeout(rule.watchdog_ns / SECOND_NS):
                if rule.own_watchdog:
                    await way.writer.write(rule.device, rule.name, case.order.value, case.about, permit)
                else:
                    await way.writer.feed(rule.device, rule.name, beat, permit)
        except TimeoutError as silent:
            raise UnreachableError("COMMAND_UNANSWERED", f"{case.target}: its watchdog cannot be fed") from silent
        except ConflictError as late:
            if late.reason == "COMMAND_LATE":
                return False
            raise
        return True

    async def _wait(self, case: Case, span_ns: int) -> None:
        left_ns = max(min(span_ns, case.order.due_ns - self._clock.boot_ns()), 0)
        try:
            async with asyncio.timeout(left_ns / SECOND_NS):
                await case.over.wait()
        except TimeoutError:
            return

    def _held_s(self, began_ns: int) -> float:
        return (self._clock.boot_ns() - began_ns) / SECOND_NS

    def _then(self, case: Case) -> str:
        return f"the device falls back within {case.order.rule.watchdog_ns / SECOND_NS:g} s"
