"""What a gateway has in flight: cursors that run ahead of the marks, within the credit granted."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from twinsync import limits
from twinsync.item import Item, Mark
from twinsync.session.messages import Key, item_bytes

_MESSAGE_SLACK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Flight:
    """One item that was sent and is not yet committed."""

    last_seq: int
    bytes: int


class Window:
    """Items in flight by (boot, stream), and how many more may follow.

    Attributes:
        bytes, items: what is in flight.
        generation: grows whenever a cursor falls back; what was read for an older one is stale.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.items = 0
        self.generation = 0
        self._credit_bytes = 0
        self._credit_items = 0
        self._message_bytes_max = 0
        self._cursors: dict[Key, int] = {}
        self._flights: dict[Key, deque[_Flight]] = {}

    def limit_message(self, bytes_max: int) -> None:
        """Bounds the size of one message."""
        self._message_bytes_max = min(bytes_max, limits.MESSAGE_BYTES_MAX)

    def grant(self, credit_bytes: int, credit_items: int) -> None:
        """Takes a new credit; it replaces the one before, 0 pauses."""
        self._credit_bytes, self._credit_items = credit_bytes, credit_items

    def room(self) -> tuple[int, int]:
        """Bytes and items that may be sent now, none of them positive while paused."""
        if self._credit_bytes <= 0 or self._credit_items <= 0:
            return 0, 0
        room_bytes = min(self._message_bytes_max - _MESSAGE_SLACK_BYTES, self._credit_bytes - self.bytes)
        return room_bytes, min(limits.ITEMS_PER_MESSAGE_MAX, self._credit_items - self.items)

    def ahead(self) -> tuple[Mark, ...]:
        """The cursors of all that is in flight."""
        return tuple(Mark(*key, self._cursors[key]) for key, flights in self._flights.items() if flights)

    def launch(self, waiting: Sequence[Item]) -> tuple[Item, ...]:
        """Puts as many of the waiting items in flight as fit; an item larger than the whole credit goes alone."""
        room_bytes, room_items = self.room()
        chosen: list[Item] = []
        used = 0
        for item in waiting[: max(room_items, 0)]:
            size = item_bytes(item)
            if used + size > room_bytes and (chosen or self.items):
                break
            chosen.append(item)
            used += size
        for item in chosen:
            key = (item.boot, item.stream)
            self._flights.setdefault(key, deque()).append(_Flight(item.last_seq, item_bytes(item)))
            self._cursors[key] = item.last_seq + 1
        self.bytes += used
        self.items += len(chosen)
        return tuple(chosen)

    def land(self, mark: Mark) -> None:
        """Takes what a mark covers out of the air."""
        flights = self._flights.get((mark.boot, mark.stream))
        while flights and flights[0].last_seq < mark.next_seq:
            self._forget(flights.popleft())

    def fall_back(self, key: Key | None = None) -> None:
        """Treats what is in flight of one key, or of all, as not sent; it is read again from the mark on."""
        for each in [key] if key is not None else list(self._flights):
            for flight in self._flights.pop(each, ()):
                self._forget(flight)
            self._cursors.pop(each, None)
        self.generation += 1

    def _forget(self, flight: _Flight) -> None:
        self.bytes -= flight.bytes
        self.items -= 1
