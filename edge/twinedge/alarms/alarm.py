"""One alarm while the agent runs: its condition, where it stands, and the record that tells of it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twinedge.alarms.senses import Sense
from twinedge.alarms.specs import AlarmSpec
from twinedge.config.alarms import Word
from twinmodel.alarms.records import AlarmRecord, Priority, decode, encode
from twinmodel.alarms.states import Standing, State, raised
from twinmodel.errors import InputError

_PLACE: Final = re.compile(r"\{(\w+)\}")
_STANDING: Final = (State.UNACK, State.ACKED, State.RTNUN)


@dataclass(frozen=True, slots=True)
class Now:
    """A moment: the wall clock, which may jump, and the boot clock, which all waiting is measured by."""

    wall_ns: int
    boot_ns: int


@dataclass(slots=True, eq=False)
class Alarm:
    """One alarm.

    Attributes:
        spec: what its rule wants.
        standing: its state.
        holds: whether its condition holds at this moment, whatever the delays; None before anything could tell.
        since_ns, since_boot_ns: when that last changed, in the time of the samples and by the boot clock.
        value, quality, note: what it was judged by; `note` replaces {value} where it is no number.
        count: occurrences, or alarms, that this line stands for.
        cause: alarm that this one is a consequence of, "" for none.
        guarded: whether `when` or `unless` suppress it.
        shelved_until_boot_ns: end of shelving by the boot clock, None while it is not shelved.
        raises: boot times at which it was raised, as far as chattering needs them.
        chattering: whether its repeats are folded into this line.
        by, comment: who asked for the last step, and what they said.
        at_ns: wall time of the last step.
        told: the newest record of it, None before the first.
        told_boot_ns: when that was.
        signal: number of the signal it looks at, None for none.
        sense: its condition, None for one that nobody needs to hold against a value.
        guards: what suppresses it, each with what it must be so that it does not.
    """

    spec: AlarmSpec
    standing: Standing = field(default_factory=Standing)
    holds: bool | None = None
    since_ns: int = 0
    since_boot_ns: int = 0
    value: Word | None = None
    quality: str = ""
    note: str = ""
    count: int = 1
    cause: str = ""
    guarded: bool = False
    shelved_until_boot_ns: int | None = None
    raises: deque[int] = field(default_factory=deque)
    chattering: bool = False
    by: str = ""
    comment: str = ""
    at_ns: int = 0
    told: AlarmRecord | None = None
    told_boot_ns: int = 0
    signal: int | None = None
    sense: Sense | None = None
    guards: tuple[tuple[Sense, bool], ...] = ()
    _text_of: tuple[AlarmRecord | None, str] = (None, "")

    @property
    def pending(self) -> bool:
        """Whether its condition is not yet what its state says."""
        return self.holds is not None and self.holds is not self.standing.active

    @property
    def off_delay_ns(self) -> int:
        """How long the condition must have gone; a chattering alarm must be quiet for longer."""
        chatter = self.spec.chatter
        if not self.chattering or chatter is None:
            return self.spec.off_delay_ns
        return max(self.spec.off_delay_ns, chatter.window_ns // chatter.count)

    @property
    def shows(self) -> bool:
        """Whether people see it among what stands."""
        return self.standing.state in _STANDING

    def flip(self, *, holds: bool, t_ns: int, now: Now) -> None:
        """The condition has begun or ended."""
        if holds is self.holds:
            return
        again = self.chattering and holds and self.standing.active and self.holds is False
        self.holds, self.since_ns, self.since_boot_ns = holds, t_ns, now.boot_ns
        if again:
            self.count += 1
            self._noted(now)

    def raise_(self, now: Now) -> None:
        """A new occurrence."""
        self.standing = raised(self.standing, self.spec.manner)
        self.count, self.by, self.comment = 1, "", ""
        self._noted(now)

    def _noted(self, now: Now) -> None:
        """Keeps in mind that it was raised; too often in a time is chattering."""
        chatter = self.spec.chatter
        if chatter is None:
            return
        self.raises.append(now.boot_ns)
        while self.raises[0] < now.boot_ns - chatter.window_ns:
            self.raises.popleft()
        self.chattering = len(self.raises) > chatter.count
        while len(self.raises) > chatter.count + 1:
            self.raises.popleft()

    def rested(self) -> None:
        """It was quiet for long enough: chattering is over."""
        if self.chattering:
            self.chattering = False
            self.raises.clear()

    def record(self, t_ns: int) -> AlarmRecord:
        """What there is to say of it now."""
        spec, standing = self.spec, self.standing
        value = self.note or self.value
        if not isinstance(value, str) and value is not None and spec.labels:
            value = dict(spec.labels).get(int(value), value)
        return AlarmRecord(
            alarm=spec.name,
            rule=spec.rule,
            source=spec.source,
            state=standing.state,
            active=standing.active,
            acked=standing.acked,
            severity=spec.severity,
            priority=Priority(spec.priority),
            text=self._text(value),
            value=value,
            limit=spec.limit,
            unit=spec.unit,
            quality=self.quality,
            cause=self.cause if standing.suppressed else "",
            count=self.count,
            by=self.by,
            comment=self.comment,
            until_ns=standing.shelved_until_ns,
            occurrence=standing.occurrence,
            at_ns=max(t_ns, 0),
        )

    def _text(self, value: Word | None) -> str:
        spec = self.spec
        places = {
            "source": spec.source,
            "value": _written(value),
            "limit": _written(spec.limit),
            "unit": spec.unit,
            "quality": self.quality,
            "cause": self.cause,
        }
        text = _PLACE.sub(lambda found: places.get(found[1], found[0]), spec.text)
        return " ".join(text.split()) + (" (chattering)" if self.chattering else "")

    def worth_telling(self, record: AlarmRecord) -> bool:
        """Whether people learn something by a record: not while it stays out of their sight."""
        told = self.told
        before = State.NORM if told is None else told.state
        if record.state is State.NORM:
            return before is not State.NORM
        if record.state is State.SUPPRESSED and before is State.NORM:
            return record.active and not record.cause
        if told is None:
            return True
        now, then = ((r.state, r.active, r.acked, r.cause, r.occurrence, r.until_ns) for r in (record, told))
        return now != then

    def _told_text(self) -> str | None:
        """The newest record as text, for as long as it says that something stands; made once."""
        told = self.told
        if told is None or told.state is State.NORM:
            return None
        if self._text_of[0] is not told:
            self._text_of = (told, encode(told))
        return self._text_of[1]

    def saved(self) -> dict[str, Any]:
        """What must outlive the process."""
        standing = self.standing
        return {
            "active": standing.active,
            "held": standing.held,
            "acked": standing.acked,
            "occurrence": standing.occurrence,
            "shelved_until_ns": standing.shelved_until_ns,
            "suppressed": standing.suppressed,
            "out_of_service": standing.out_of_service,
            "cause": self.cause,
            "count": self.count,
            "by": self.by,
            "comment": self.comment,
            "at_ns": self.at_ns,
            "told": self._told_text(),
            "kind": self.spec.kind,
            "shelve_max_ns": self.spec.shelve_max_ns,
        }

    def restore(self, saved: Mapping[str, Any], now: Now) -> None:
        """Takes over what an earlier process knew; raises KeyError, TypeError, ValueError or InputError."""
        told = None if saved["told"] is None else decode(str(saved["told"]))
        flags = {name: saved[name] for name in ("active", "held", "acked", "suppressed", "out_of_service")}
        whole = {name: saved[name] for name in ("occurrence", "shelved_until_ns")}
        if not all(isinstance(v, bool) for v in flags.values()) or not all(type(v) is int for v in whole.values()):
            raise TypeError("flags are no flags, or numbers no numbers")
        count, at_ns = int(saved["count"]), int(saved["at_ns"])
        texts = [str(saved[name]) for name in ("cause", "by", "comment")]
        if min(count, at_ns, *whole.values()) < 0:
            raise InputError("VALUE_INVALID", "a number is negative")
        self.standing = Standing(**flags, **whole)
        self.count, self.at_ns, self.told = count, at_ns, told
        self.cause, self.by, self.comment = texts
        self.guarded = self.standing.suppressed and not self.cause
        if told is not None:
            self.value, self.quality = told.value, told.quality
        until_ns = self.standing.shelved_until_ns
        if until_ns:
            # The wall clock may not be set yet; nothing is shelved for longer than it may be.
            self.shelved_until_boot_ns = now.boot_ns + min(max(until_ns - now.wall_ns, 0), self.spec.shelve_max_ns)


def _written(value: Word | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) and not isinstance(value, bool) else str(value)
