"""From one MQTT message to samples: all points of a device that share a topic and a shape are read together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from twinedge.drivers.decode import DECODE, NOTHING
from twinedge.drivers.link import Columns, DeviceLink
from twinedge.drivers.payload import PAYLOAD_MAX, PayloadError, parser, too_large
from twinedge.drivers.payload_fields import (
    Field,
    PayloadMissingError,
    Shape,
    getter,
    samples_of,
    time_reader,
)
from twinedge.drivers.source_clock import MessageClock
from twinmodel.clock import round_to_step
from twinmodel.quality import GOOD, QualityReason, good, uncertain
from twinmodel.signal import Signal

_CLOCK = uncertain(QualityReason.CLOCK)
_OLD = good(QualityReason.BACKFILLED)
_OLD_UNDATED = uncertain(QualityReason.BACKFILLED)


@dataclass(slots=True)
class Watch:
    """Signals that are heard of together, and since when they are silent.

    Attributes:
        link: their device.
        expect_ns: longest silence that means nothing, 0 for any.
        heard_ns: boot time of the newest message that was not a retained one.
        stale: whether bad(STALE) was said since.
    """

    link: DeviceLink
    signals: list[Signal]
    expect_ns: int
    heard_ns: int = 0
    stale: bool = False

    def heard(self, boot_ns: int) -> None:
        """Something new came."""
        self.heard_ns, self.stale = boot_ns, False


@dataclass(frozen=True, slots=True)
class Now:
    """The moment in which a run of messages is read: boot clock and wall clock."""

    boot_ns: int
    wall_ns: int


@dataclass(slots=True)
class Opened:
    """A payload that was read once for all feeds of its format.

    Attributes:
        content: plain values.
        wrong: why there is no content, None when there is.
    """

    content: object
    wrong: PayloadError | None


class Feed:
    """Points of one device in messages of one topic filter and one shape.

    Attributes:
        link: the device.
        shape: how the messages are read.
        watch: of the points that every message carries; each optional point has one of its own.
        fields: the points.
    """

    __slots__ = ("_clock", "_key_of", "_lone", "_parse", "_step_ns", "_time_of", "fields", "link", "shape", "watch")

    def __init__(self, link: DeviceLink, shape: Shape, watch: Watch) -> None:
        self.link, self.shape, self.watch = link, shape, watch
        self.fields: list[Field] = []
        self._lone: dict[int, Watch] = {}
        self._parse = parser(shape.payload)
        self._time_of = time_reader(shape)
        self._key_of = None if shape.key is None else getter(shape.key)
        self._step_ns = link.assignment.time_step_ns
        # What covers a period that is over, or comes rarely, is behind by so much and right.
        self._clock = MessageClock(link.name, 3 * max(watch.expect_ns, link.assignment.profile.defaults.every))

    def add(self, field: Field, lone: Watch | None) -> None:
        """Adds a point; `lone` is the watch of an optional one."""
        self.fields.append(field)
        if lone is None:
            self.watch.signals.append(field.signal)
        else:
            self._lone[field.signal.id] = lone

    def open(self, payload: bytes, size: int) -> Opened:
        """Reads a payload of `size` bytes, of which only a beginning may be there."""
        try:
            if size > PAYLOAD_MAX:
                raise too_large(size)
            return Opened(self._parse(payload), None)
        except PayloadError as wrong:
            return Opened(None, wrong)

    def key(self, opened: Opened) -> Hashable:
        """What tells this message apart from others of its topic; None when the profile or the payload has nothing."""
        if self._key_of is None or opened.wrong is not None:
            return None
        try:
            found = self._key_of(opened.content)
        except PayloadMissingError:
            return None
        return found if isinstance(found, (str, int, float)) else None

    def time_ns(self, opened: Opened) -> int | None:
        """The event time of a message (of its first sample), None when it carries none."""
        if self._time_of is None or opened.wrong is not None:
            return None
        if self.shape.time_of_all:
            return self._time_of(opened.content)
        try:
            samples = samples_of(opened.content, self.shape)
        except PayloadError:
            return None
        return self._time_of(samples[0]) if samples else None

    def read(self, opened: Opened, time_ns: int | None, now: Now, columns: Columns, *, retained: bool) -> None:
        """Adds one sample per point and sample of the message; what cannot be read is bad(DECODE), counted and kept.

        Args:
            opened: the payload.
            time_ns: what `time_ns` said.
            now: when it came.
            columns: where to.
            retained: whether the broker kept it for who comes later: it is no news, and its age is unknown.
        """
        if not retained:
            self.watch.heard(now.boot_ns)
        before = len(columns)
        shape = self.shape
        try:
            if opened.wrong is not None:
                raise opened.wrong
            if shape.each is None:
                self._sample(opened.content, time_ns, now, columns, retained=retained)
            else:
                time_of = None if shape.time_of_all else self._time_of
                for number, sample in enumerate(samples_of(opened.content, shape)):
                    own_ns = time_ns if time_of is None else time_of(sample)
                    shifted = None if own_ns is None else own_ns + number * shape.spacing_ns
                    self._sample(sample, shifted, now, columns, retained=retained)
        except PayloadError as wrong:
            self._fault("", wrong)
            for field in self.fields:
                columns.add(field.signal, NOTHING[field.signal.kind], DECODE, now.wall_ns)
        self.link.count(len(columns) - before)

    def _sample(self, content: object, time_ns: int | None, now: Now, columns: Columns, *, retained: bool) -> None:
        mark = GOOD
        if time_ns is not None and self._believes(time_ns, now, retained=retained):
            t_ns = round_to_step(time_ns, self._step_ns)
            mark = _OLD if retained else GOOD
        else:
            t_ns = now.wall_ns
            mark = _OLD_UNDATED if retained else GOOD if self._time_of is None else _CLOCK
        for field in self.fields:
            try:
                value, quality = field.read(content)
            except PayloadMissingError as missing:
                if field.optional:
                    continue
                value, quality = self._refused(field, missing)
            except PayloadError as wrong:
                value, quality = self._refused(field, wrong)
            columns.add(field.signal, value, quality or mark, t_ns)
            if field.optional and not retained:
                self._lone[field.signal.id].heard(now.boot_ns)

    def _believes(self, time_ns: int, now: Now, *, retained: bool) -> bool:
        if retained:
            return self._clock.may_be(time_ns, now.wall_ns)
        return self._clock.believes(time_ns, now.wall_ns, now.boot_ns)

    def _refused(self, field: Field, wrong: PayloadError) -> tuple[object, int]:
        self._fault(f"{field.signal.name}: ", wrong)
        return NOTHING[field.signal.kind], DECODE

    def _fault(self, where: str, wrong: PayloadError) -> None:
        self.link.fault(f"{where}{wrong.message} ({wrong.reason})")
