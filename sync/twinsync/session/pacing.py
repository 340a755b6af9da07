"""What leaves next, and how much may be on its way: the urgent and the present first, the past within its share.

            alarm ─▶ state ─▶ telemetry ─▶ bulk        of the present boot: LIVE
    offer ─▶                                                                    ─▶ next ─▶ the link
            alarm ─▶ state ─▶ telemetry ─▶ bulk        of older boots: HISTORY

A socket takes what it is given and keeps its order: what lies in its buffer cannot be overtaken any more. So only as
much is given as the link holds by itself, plus a tenth of a second; the rest waits here, sorted. A block that would
occupy the link for longer than a moment goes in parts. The live lanes go first as long as they keep within their
budget, the link less the share of history; beyond it history gets its share nevertheless.

Pure: no clock and no I/O; boot times are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from twinmodel.clock import MILLISECOND_NS, SECOND_NS
from twinmodel.signal import Stream
from twinsync import limits
from twinsync.item import Block, Item, Mark
from twinsync.session.messages import Items, Key, Part, item_bytes, part_bytes
from twinsync.session.rate import START_BYTES, LinkRate


class Lane(IntEnum):
    """Whether an item is of the present or of the past."""

    LIVE = 0
    HISTORY = 1


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """How a link is shared.

    Attributes:
        history_share: part of the link that history gets even while the live lanes could use all of it.
        burst_ns: for how long the live lanes may use all of the link before that.
        queue_ns: what may stand in buffers in front of the link, by time, because of history.
        live_queue_ns: what may, because of the live lanes; alarms go at once.
        chunk_ns: what is larger than the link carries in this time goes in parts of this size.
        chunk_bytes_min, chunk_bytes_max: bounds of a part.
        probe_ns: how often history rests for the time of one way there and back, so that the delay of the empty
            link is seen again.
    """

    history_share: float = 0.2
    burst_ns: int = 10 * SECOND_NS
    queue_ns: int = 100 * MILLISECOND_NS
    live_queue_ns: int = 500 * MILLISECOND_NS
    chunk_ns: int = 150 * MILLISECOND_NS
    chunk_bytes_min: int = 1 << 10
    chunk_bytes_max: int = 1 << 20
    probe_ns: int = 20 * SECOND_NS


@dataclass(slots=True)
class _Waiting:
    """An item on its way out; `offset` bytes of its payload have left."""

    item: Item
    offset: int = 0


class Pacer:
    """Holds what was read from the spool until the link has room for it; one for all sessions of a gateway."""

    def __init__(self, pace_limits: PaceLimits = PaceLimits()) -> None:
        self.limits = pace_limits
        self.rate = LinkRate()
        self._lanes: dict[tuple[Lane, Stream], deque[_Waiting]] = {(lane, s): deque() for lane in Lane for s in Stream}
        self._queued = dict.fromkeys(Lane, 0)
        self._live_boot = b""
        self._masks: dict[Lane, tuple[Mark, ...]] = dict.fromkeys(Lane, ())
        self._dry = dict.fromkeys(Lane, False)
        self._session = 0
        self._owed = 0.0
        self._probe_ns = 0
        self._rest_until_ns = 0

    # ---- what waits ----------------------------------------------------------------------------------------------

    def start(self, session: int, boots: Iterable[bytes], now_ns: int) -> None:
        """A session is open; the last of its boots is the present one."""
        self.drop()
        self.rate.start(now_ns)
        *older, self._live_boot = boots
        none = limits.SEQ_MAX
        self._masks = {
            Lane.LIVE: tuple(Mark(boot, stream, none) for boot in older for stream in Stream),
            Lane.HISTORY: tuple(Mark(self._live_boot, stream, none) for stream in Stream),
        }
        self._session = session
        self._dry = {Lane.LIVE: False, Lane.HISTORY: not older}
        self._owed = 0.0
        self._probe_ns, self._rest_until_ns = now_ns + self.limits.probe_ns, 0

    def masks(self, lane: Lane) -> tuple[Mark, ...]:
        """Cursors that hide all but one lane from a read of the spool."""
        return self._masks[lane]

    def news(self) -> None:
        """The spool has new items, of the present boot."""
        self._dry[Lane.LIVE] = False

    def went_back(self) -> None:
        """What was read before waits in the spool again, of any boot."""
        self._dry = {Lane.LIVE: False, Lane.HISTORY: not self._masks[Lane.LIVE]}

    def dried(self, lane: Lane) -> None:
        """The spool has no more items of a lane."""
        self._dry[lane] = True

    def wanted(self) -> tuple[Lane, int] | None:
        """Which lane to read next and how many bytes of it, None while enough is here."""
        enough = max(2 * self._chunk_bytes(), int(self.rate.bytes_per_s / 4))
        for lane in Lane:
            # A live item may be more urgent than those that wait here already: they are looked for beyond enough.
            if not self._dry[lane] and self._queued[lane] < (4 * enough if lane is Lane.LIVE else enough):
                return lane, enough
        return None

    def offer(self, items: Iterable[Item]) -> None:
        """Takes items to send, each lane in the order of its numbers."""
        for item in items:
            lane = Lane.LIVE if item.boot == self._live_boot else Lane.HISTORY
            self._lanes[lane, item.stream].append(_Waiting(item))
            self._queued[lane] += item_bytes(item)

    def drop(self, key: Key | None = None) -> None:
        """Forgets what has not left, of one key or of all: it is read again."""
        for (lane, _), waiting in self._lanes.items():
            kept = [] if key is None else [w for w in waiting if (w.item.boot, w.item.stream) != key]
            if len(kept) == len(waiting):
                continue
            waiting.clear()
            waiting.extend(kept)
            self._queued[lane] = sum(
                item_bytes(w.item) - w.offset for (of, _), all_ in self._lanes.items() if of is lane for w in all_
            )
        if key is None:
            self.rate.forget_flight()

    # ---- what leaves ---------------------------------------------------------------------------------------------

    def next(self, now_ns: int) -> Items | Part | None:
        """The message to write now; None while nothing waits or the link is full."""
        if now_ns >= self._rest_until_ns:
            self._rest_until_ns = 0
        for lane in self._order():
            stream = next((s for s in Stream if self._lanes[lane, s]), None)
            if stream is not None and self._fits(lane, stream, now_ns):
                message, size = self._cut(lane, stream)
                self._account(lane, size, now_ns)
                return message
        return None

    def received(self, total: int, now_ns: int) -> bool:
        """Takes the count of `Committed`; False when it is no news."""
        return self.rate.received(total, now_ns)

    def due_ns(self) -> int | None:
        """Boot time at which `next` is to be asked again though nothing has come, None for never."""
        return self._rest_until_ns if self._rest_until_ns and self._queued[Lane.HISTORY] else None

    def _order(self) -> tuple[Lane, Lane]:
        return (Lane.HISTORY, Lane.LIVE) if self._is_owed() else (Lane.LIVE, Lane.HISTORY)

    def _fits(self, lane: Lane, stream: Stream, now_ns: int) -> bool:
        """Whether a chunk more may be in flight."""
        flying = self.rate.in_flight
        if flying == 0 or (lane is Lane.LIVE and stream is Stream.ALARM):
            return True
        if lane is Lane.LIVE or self._is_owed():
            return flying < self.rate.window(self.limits.live_queue_ns)
        return not self._rests(now_ns) and flying < self.rate.window(self.limits.queue_ns)

    def _rests(self, now_ns: int) -> bool:
        """Whether history waits until the buffers are empty, so that the delay is measured without them."""
        if now_ns >= self._probe_ns:
            self._probe_ns = now_ns + self.limits.probe_ns
            self._rest_until_ns = now_ns + min(self.rate.delay_ns + 2 * self.limits.queue_ns, 2 * SECOND_NS)
        return self._rest_until_ns > 0

    def _cut(self, lane: Lane, stream: Stream) -> tuple[Items | Part, int]:
        """Takes a chunk off a lane: whole items together, or a part of one that is too large."""
        chunk = self._chunk_bytes()
        waiting = self._lanes[lane, stream]
        first = waiting[0]
        if first.offset or (isinstance(first.item.content, Block) and item_bytes(first.item) > chunk * 3 // 2):
            part = self._part(lane, stream, first, chunk)
            self._queued[lane] -= len(part.piece)
            if first.offset == part.total:
                self._queued[lane] -= item_bytes(first.item) - part.total
                waiting.popleft()
            return part, part_bytes(part)
        chosen: list[Item] = []
        size = 0
        while waiting and len(chosen) < limits.ITEMS_PER_MESSAGE_MAX:
            more = item_bytes(waiting[0].item)
            if chosen and size + more > chunk:
                break
            chosen.append(waiting.popleft().item)
            size += more
        self._queued[lane] -= size
        return Items(self._session, tuple(chosen)), size

    def _part(self, lane: Lane, stream: Stream, first: _Waiting, chunk: int) -> Part:
        item = first.item
        assert isinstance(item.content, Block), "only blocks are large"
        payload = item.content.payload
        piece = payload[first.offset : first.offset + chunk]
        head = None
        if first.offset == 0:
            block = item.content
            empty = Block(block.schema, block.crc32c, b"", block.t_min_ns, block.t_max_ns, block.kept)
            head = Item(item.boot, item.stream, item.first_seq, item.last_seq, empty)
        number = int(lane) * len(Stream) + list(Stream).index(stream)
        part = Part(self._session, number, head, first.offset, len(payload), piece)
        first.offset += len(piece)
        return part

    def _chunk_bytes(self) -> int:
        own = int(self.rate.bytes_per_s * self.limits.chunk_ns / SECOND_NS)
        return min(max(own, self.limits.chunk_bytes_min), self.limits.chunk_bytes_max)

    # ---- shares --------------------------------------------------------------------------------------------------

    def _account(self, lane: Lane, size: int, now_ns: int) -> None:
        """Counts what left, and what history is owed for what the live lanes took while it waited."""
        enough = sum(self._queued.values()) > 0 or not all(self._dry.values())
        self.rate.sent(size, now_ns, limited=not enough)
        share = self.limits.history_share
        if lane is Lane.HISTORY:
            self._owed = max(self._owed - size, 0.0)
        elif not self._dry[Lane.HISTORY]:
            self._owed = min(self._owed + size * share / (1 - share), self._grace() + self._chunk_bytes())

    def _is_owed(self) -> bool:
        """Whether the live lanes have had more than their budget."""
        return self._queued[Lane.HISTORY] > 0 and self._owed >= self._grace()

    def _grace(self) -> float:
        """What history would have had while the live lanes may use all of the link."""
        return self.limits.history_share * max(self.rate.bytes_per_s * self.limits.burst_ns / SECOND_NS, START_BYTES)
