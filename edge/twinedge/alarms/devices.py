"""Alarms that devices raise themselves, followed as those of rules are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from twinedge.alarms.alarm import Alarm, Now
from twinedge.alarms.engine import Engine
from twinedge.alarms.specs import DEVICE, AlarmSpec, alarm_name
from twinedge.config.load import LoadedSite
from twinedge.ports import DeviceAlarm
from twinmodel.alarms.states import State, acknowledged

log = structlog.get_logger(__name__)

DEVICE_ALARMS_MAX: Final = 2000
"""Alarms of one device."""


@dataclass(slots=True)
class DeviceAlarms:
    """Brings what devices say of their alarms to the states of the gateway.

    Args:
        engine: the alarms of the gateway.
        loaded: the site; `DEVICE:CONDITION` is shelved for at most its `shelve_max`.

    Attributes:
        conditions: alarm -> device and condition it stands for, as far as devices have said.
    """

    engine: Engine
    loaded: LoadedSite
    conditions: dict[str, tuple[str, str]] = field(default_factory=dict)
    _full: bool = False

    def take(self, told: Iterable[DeviceAlarm], now: Now) -> None:
        """Follows what was said, in order."""
        for one in told:
            alarm = self._alarm(one, now)
            if alarm is None:
                continue
            alarm.quality = ""
            self.conditions[alarm.spec.name] = one.device, one.condition
            self.engine.flip(alarm, holds=one.active, t_ns=one.t_ns, now=now)
            # Whether the device was told or not: what was acknowledged here stays so.
            if one.acked and not alarm.standing.acked and alarm.standing.state in {State.UNACK, State.RTNUN}:
                alarm.standing = acknowledged(alarm.standing)
                alarm.by = one.device
                self.engine.tell(alarm, max(one.t_ns, alarm.at_ns), now)

    def _alarm(self, one: DeviceAlarm, now: Now) -> Alarm | None:
        name = alarm_name(one.device, one.condition)
        known = self.engine.alarms.get(name)
        if known is None and not (one.active or not one.acked):
            return None  # it is as nobody has ever heard of it
        if known is None and sum(a.spec.rule == one.device for a in self.engine.alarms.values()) >= DEVICE_ALARMS_MAX:
            if not self._full:
                log.warning("device has more alarms than are followed", device=one.device, most=DEVICE_ALARMS_MAX)
            self._full = True
            return None
        spec = AlarmSpec(
            name=name,
            rule=one.device,
            source=one.device,
            kind=DEVICE,
            severity=one.severity,
            text=one.text,
            shelve_max_ns=self.loaded.site.alarm_defaults.shelve_max,
            device=one.device,
        )
        return self.engine.made(spec, now)
