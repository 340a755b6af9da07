"""Tells devices that people have seen their alarms, where the site wants that, and what devices make of it.

    want ─▶ queue ─▶ driver.acknowledge ─▶ SUCCEEDED | FAILED | UNKNOWN ─▶ told

What was acknowledged here stays so, whatever a device says. A device that is away is not told later: what stands there
then may be another occurrence, which nobody has seen. Who acknowledges again tells it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

from twinedge.ports import AlarmAnswering, Driver
from twinmodel.alarms.records import TEXT_CHARS_MAX, printable
from twinmodel.errors import ConflictError, TwinError, UnreachableError

WAITING_MAX: Final = 200
"""Acknowledgements that wait for devices; one beyond it has FAILED."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An acknowledgement that a device is to learn of.

    Attributes:
        alarm: its name here.
        device, condition: what it is there.
        occurrence: the one that was looked at.
        by, comment: who, and what they said.
    """

    alarm: str
    device: str
    condition: str
    occurrence: int
    by: str
    comment: str

    @property
    def key(self) -> tuple[str, int]:
        """What is acknowledged: an alarm that was raised anew is another one."""
        return self.alarm, self.occurrence

    @property
    def said(self) -> str:
        """What the device is told of it."""
        return ": ".join(part for part in (self.by, self.comment) if part)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of it.

    Attributes:
        outcome: `SUCCEEDED`, `FAILED` or `UNKNOWN`.
        reason: of `twinmodel.errors`, "" for a success.
        detail: for people.
    """

    outcome: str
    reason: str = ""
    detail: str = ""

    def beside(self, wanted: Wanted) -> str:
        """The comment of the step that tells of it: what the person said, and what the device made of it."""
        heads = {"SUCCEEDED": f"{wanted.device}: ", "FAILED": f"not acknowledged at {wanted.device}: "}
        head = heads.get(self.outcome, f"perhaps acknowledged at {wanted.device}: ")
        told = f"[{printable(head + self.detail, TEXT_CHARS_MAX // 2)}]"
        said = printable(wanted.comment, TEXT_CHARS_MAX - len(told) - 1)
        return f"{said} {told}".strip()


class Answers:
    """Acknowledgements on their way to devices, one at a time.

    Args:
        drivers: those that run now.
        still: whether an alarm is still at the occurrence that was looked at.
        told: takes what became of one.
    """

    def __init__(
        self,
        drivers: Callable[[], Iterable[Driver]],
        still: Callable[[Wanted], bool],
        told: Callable[[Wanted, Answer], None],
    ) -> None:
        self._drivers, self._still, self._told = drivers, still, told
        self._queue: asyncio.Queue[Wanted] = asyncio.Queue()
        self._waiting: dict[tuple[str, int], asyncio.Future[Answer | None]] = {}

    def want(self, wanted: Wanted) -> asyncio.Future[Answer | None] | None:
        """Has a device told, if the site wants it; one of the same occurrence that waits already stands for both.

        Returns:
            What will become of it: None where the device waits for nobody. None instead where nothing is told.
        """
        if self._driver(wanted.device) is None:
            return None
        if wanted.key in self._waiting:
            return self._waiting[wanted.key]
        if len(self._waiting) >= WAITING_MAX:
            refused = f"{WAITING_MAX} acknowledgements wait for devices already"
            self._told(wanted, Answer("FAILED", "COMMAND_QUEUE_FULL", refused))
            return None
        self._waiting[wanted.key] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(wanted)
        return self._waiting[wanted.key]

    async def run(self) -> NoReturn:
        """Tells devices until cancelled."""
        while True:
            wanted = await self._queue.get()
            answer = None
            try:
                answer = await self._answer(wanted)
                if answer is not None:
                    self._told(wanted, answer)
            finally:
                self._waiting.pop(wanted.key).set_result(answer)

    async def _answer(self, wanted: Wanted) -> Answer | None:
        """What a device makes of it; None where it waits for nobody."""
        try:
            driver = self._driver(wanted.device)
            if driver is None:
                hint = "acknowledge the alarm again once it is back"
                raise UnreachableError(
                    "DEVICE_UNREACHABLE", f"{wanted.device} is not connected: it was not told", hint=hint
                )
            if not self._still(wanted):
                text = "it was raised anew or is gone, so it was not told"
                raise ConflictError("ALARM_CHANGED", text)
            said = await driver.acknowledge(wanted.device, wanted.condition, wanted.said)
        except TwinError as error:
            outcome = "UNKNOWN" if error.reason == "COMMAND_UNANSWERED" else "FAILED"
            return Answer(outcome, error.reason, error.message)
        return Answer("SUCCEEDED", "", said) if said else None

    def _driver(self, device: str) -> AlarmAnswering | None:
        for driver in self._drivers():
            if isinstance(driver, AlarmAnswering) and driver.answers(device):
                return driver
        return None
