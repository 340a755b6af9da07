"""The records of alarms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from twincloud.storage.records import Directive, GatewayKey
from twinmodel.alarms.records import AlarmRecord, Priority

OWN: Final = "@gateway"
"""The alarm that the coordinator itself raises of a gateway that is away; gateways cannot raise one of that name."""
TARGET: Final = "@alarm/"
"""Begins the target of directives for alarms."""
RANKS: Final = {Priority.URGENT: 0, Priority.HIGH: 1, Priority.MEDIUM: 2, Priority.LOW: 3}

Do = Literal["ack", "shelve", "unshelve", "comment", "out_of_service", "in_service"]
"""What people ask of an alarm."""


def alarm_id(gateway: GatewayKey, alarm: str) -> str:
    """The id of an alarm in addresses: names hold whatever a device calls its conditions."""
    return hashlib.sha256(f"{gateway.site}\n{gateway.gateway}\n{alarm}".encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm as the coordinator knows it.

    Attributes:
        record: what its gateway said last.
        twins: those it is about.
        since_ns: when this occurrence began, by the gateway's clock.
        changed_ns: of the last step, by the same clock.
        seen_ns: when its gateway was last heard.
        connected: whether the gateway has a session.
        action: the newest thing asked of it, None for nothing.
    """

    id: str
    gateway: GatewayKey
    record: AlarmRecord
    twins: tuple[str, ...]
    since_ns: int
    changed_ns: int
    received_ns: int
    committed_ns: int
    seen_ns: int
    connected: bool
    action: Directive | None = None


@dataclass(frozen=True, slots=True)
class AlarmChoice:
    """Which alarms of a tenant; "" and None choose all.

    Attributes:
        standing: whether there is anything left to see or to do.
        cause: consequences of this alarm or device.
    """

    site: str = ""
    gateway: str = ""
    twin: str = ""
    state: str = ""
    priority: str = ""
    cause: str = ""
    active: bool | None = None
    acked: bool | None = None
    standing: bool | None = None


Highest = Literal["", "low", "medium", "high", "urgent"]


@dataclass(frozen=True, slots=True)
class AlarmMarks:
    """Alarms in numbers; those that are shelved, suppressed or out of service do not count.

    Attributes:
        unacked: waiting for somebody, by priority.
        active: whose condition holds.
    """

    unacked: Mapping[str, int] = field(default_factory=dict)
    active: int = 0
    highest: Highest = ""


NO_MARKS: Final = AlarmMarks()


@dataclass(frozen=True, slots=True)
class AlarmAsk:
    """What somebody asks of an alarm.

    Attributes:
        occurrence: the one they have seen; None takes the present one.
        for_s: how long to shelve.
    """

    id: str
    do: Do
    by: str
    occurrence: int | None = None
    for_s: int = 0
    comment: str = ""


@dataclass(frozen=True, slots=True)
class AlarmStep:
    """One line of an alarm's journal: the record, the gateway's time of it, and ours."""

    record: AlarmRecord
    t_ns: int
    received_ns: int
    committed_ns: int
