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
from twinedge.ports import AlarmsRepeated, DeviceAlarm
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

    def take(self, told: Iterable[DeviceAlarm | AlarmsRepeated], now: Now) -> None:
        """Follows what was said, in order."""
        for one in told:
            if isinstance(one, AlarmsRepeated):
                self._forget_others(one, now)
                continue
            alarm = self._alarm(one, now)
            if alarm is None:
                continue
            self.conditions[alarm.spec.name] = one.device, one.condition
            self._follow(alarm, one.t_ns, now, active=one.active, acked=one.acked)

    def _follow(self, alarm: Alarm, t_ns: int, now: Now, *, active: bool, acked: bool) -> None:
        alarm.quality = ""
        self.engine.flip(alarm, holds=active, t_ns=t_ns, now=now)
        # Whether the device was told or not: what was acknowledged here stays so.
        if acked and not alarm.standing.acked and alarm.standing.state in {State.UNACK, State.RTNUN}:
            alarm.standing = acknowledged(alarm.standing)
            alarm.by = alarm.spec.device
            self.engine.tell(alarm, max(t_ns, alarm.at_ns), now)

    def _forget_others(self, repeated: AlarmsRepeated, now: Now) -> None:
        """Ends what stands here of devices that did not say it anew: it went while nobody listened."""
        standing = {alarm_name(device, condition) for device, condition in repeated.standing}
        for name, alarm in self.engine.alarms.items():
            stands = alarm.standing.active or not alarm.standing.acked
            if alarm.spec.kind == DEVICE and alarm.spec.device in repeated.devices and stands and name not in standing:
                self._follow(alarm, repeated.t_ns, now, active=False, acked=True)

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
