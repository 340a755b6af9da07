"""The part of the store contract that keeps alarms."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from twincloud.filters import Filter
from twincloud.storage.records import Page
from twincloud.storage.records_alarms import Alarm, AlarmAsk, AlarmChoice, AlarmMarks, AlarmStep
from twinmodel.errors import TwinError


class Alarms(Protocol):
    """Alarms as gateways tell them, and what people ask of them."""

    def alarms(
        self,
        tenant: str,
        wanted: AlarmChoice,
        *,
        chosen: Filter | None = None,
        limit: int = 100,
        token: str = "",
    ) -> Page[Alarm]:
        """Alarms by priority, those that changed last first."""
        ...

    def alarm(self, tenant: str, alarm: str) -> Alarm:
        """One alarm by its id; raises UNKNOWN_ALARM."""
        ...

    def alarm_marks(self, tenant: str) -> AlarmMarks:
        """All alarms of a tenant in numbers."""
        ...

    def twin_marks(self, tenant: str, twins: Collection[str]) -> Mapping[tuple[str, str], AlarmMarks]:
        """Alarms in numbers by (site, twin), of twins of these names; those that have none are left out."""
        ...

    def alarm_journal(self, alarm: Alarm, from_ns: int, to_ns: int, limit: int) -> tuple[AlarmStep, ...]:
        """The newest steps of an alarm in [from_ns, to_ns), the newest first, out of the history of its gateway.

        Raises:
            InputError: LIMIT_EXCEEDED when the span holds more records than one answer may look at.
        """
        ...

    def ask_alarms(self, tenant: str, asked: Sequence[AlarmAsk], now_ns: int) -> list[Alarm | TwinError]:
        """Asks something of alarms, all in one transaction; an answer each, in their order.

        What is asked becomes a directive: the gateway holds the truth and says by a record what came of it. Of the
        coordinator's own alarms the new state is there at once. What is so already opens nothing. Errors:
        UNKNOWN_ALARM; ALARM_CHANGED for an occurrence that is over; PRECONDITION_FAILED for what makes no sense now;
        IN_PROGRESS for what would undo something that waits for the gateway.
        """
        ...

    def watch_gateways(self, now_ns: int, away_ns: int) -> int:
        """Raises the coordinator's own alarms of gateways that are away for longer, and ends what is over.

        Returns:
            How many alarms changed.
        """
        ...
