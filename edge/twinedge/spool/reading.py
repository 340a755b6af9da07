"""What a spool tells without writing: it goes on while the disk refuses."""

from __future__ import annotations

from dataclasses import replace

import apsw

from twinedge.spool import outgoing
from twinedge.spool.catalogues import catalogue_of, digests_of
from twinedge.spool.connection import Connection
from twinedge.spool.forecast import Forecast, forecast_of
from twinedge.spool.forgotten import Numbers, read_forgotten
from twinedge.spool.ledger import Loss, losses_of
from twinedge.spool.outgoing import Backlog
from twinedge.spool.recall import recent_of
from twinedge.spool.rows import CONFIRMED, Lane, boots_of, lanes_of, setting
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.signal import Batch, Catalogue, Stream
from twinsync.item import Boot, Range

_FORECAST_AGE_NS = 30 * SECOND_NS


class Reading:
    """The reading half of `store.Spool`.

    Attributes:
        boot: the boot that numbers what is appended.
    """

    def __init__(self, file: Connection, clock: Clock, boot: Boot) -> None:
        self._file = file
        self._clock = clock
        self._boots: dict[int, bytes] = {}
        self._next: dict[Stream, int] = {}
        self._forecast: tuple[int, Forecast] | None = None
        self._lanes_read: tuple[apsw.Connection, int, list[Lane]] | None = None
        self._forgotten_read: tuple[apsw.Connection, int, Numbers] | None = None
        self.boot = boot

    def ranges(self) -> list[Range]:
        """What is held unacknowledged, by stream and then in the order of boots."""
        return outgoing.ranges_of(self._file.read(self._lanes), self._boots)

    def boots_since(self, confirmed: bytes | None = None) -> list[Boot]:
        """Boots from `confirmed` to the present one, oldest first; None: from the last one `confirm_boot` stored.

        All that are kept, when that boot is not among them.
        """
        # One beyond the present is of a commit that failed and yet arrived: it is undone, and told to nobody.
        present = self.boot.counter or 1 << 62
        boots = [boot for boot in self._file.read(boots_of) if boot.counter <= present]
        start = confirmed if confirmed is not None else self._file.read(lambda db: setting(db, CONFIRMED))
        places = [place for place, boot in enumerate(boots) if boot.id == start]
        return boots[places[0] :] if places else boots

    def catalogue(self, digest: bytes) -> Catalogue | None:
        """A stored catalogue, None when it is not here."""
        return self._file.read(lambda db: catalogue_of(db, digest))

    def schemas(self) -> list[bytes]:
        """Digests of the catalogues that stored blocks and the present configuration need."""
        return list(self._file.read(digests_of).values())

    def recent(self) -> list[tuple[Catalogue, list[Batch]]]:
        """Samples stored last, by any boot, see `recall`."""
        return self._file.read(recent_of)

    def backlog(self) -> Backlog:
        """What waits for the coordinator."""
        return self._file.read(lambda db: outgoing.backlog_of(db, self._lanes(db)))

    def history_waits(self, bytes_min: int, age_min_ns: int) -> bool:
        """Whether at least this much of the present boot waits, its oldest item appended so long ago."""
        lanes = [lane for lane in self._file.read(self._lanes) if lane.boot == self.boot.counter]
        waiting = self._file.read(lambda db: outgoing.backlog_of(db, lanes))
        if waiting.bytes < bytes_min:
            return False
        oldest_ns = self._file.read(lambda db: outgoing.oldest_append_ns(db, lanes))
        return oldest_ns is not None and abs(self._clock.wall_ns() - oldest_ns) >= age_min_ns

    def ledger(self) -> list[Loss]:
        """Everything this spool ever dropped: numbers that became gaps, and samples thinned out of blocks."""
        return self._file.read(losses_of)

    def forecast(self) -> Forecast:
        """How fast each class fills the budget, and when it is full; looked up anew each half minute."""
        now_ns = self._clock.boot_ns()
        if self._forecast is None or now_ns - self._forecast[0] >= _FORECAST_AGE_NS:
            self._forecast = (now_ns, self._file.read(lambda db: forecast_of(db, self._lanes(db))))
        return self._forecast[1]

    def _lanes(self, db: apsw.Connection) -> list[Lane]:
        """All lanes, up to what was promised: a commit that failed may have arrived."""
        lanes = []
        for lane in self._stored_lanes(db):
            next_seq = lane.next_seq
            if lane.boot == self.boot.counter:
                next_seq = min(next_seq, self._next.get(Stream(lane.stream), 0))
            if lane.boot in self._boots:
                told = next_seq == lane.next_seq
                acked_seq = min(lane.acked_seq, next_seq)
                lanes.append(lane if told else replace(lane, next_seq=next_seq, acked_seq=acked_seq))
        return lanes

    def _stored_lanes(self, db: apsw.Connection) -> list[Lane]:
        """All lanes as they are stored, read anew only when a row has changed: this connection alone writes."""
        changes = db.total_changes()
        known = self._lanes_read
        if known is not None and known[0] is db and known[1] == changes:
            return known[2]
        lanes = lanes_of(db)
        if not db.in_transaction:
            # What a transaction sees may be rolled back.
            self._lanes_read = (db, changes, lanes)
        return lanes

    def _forgotten(self, db: apsw.Connection) -> Numbers:
        """Numbers of deleted lanes, read anew as `_stored_lanes` is: each session asks for many of them."""
        changes = db.total_changes()
        known = self._forgotten_read
        if known is None or known[0] is not db or known[1] != changes:
            known = self._forgotten_read = (db, changes, read_forgotten(db))
        return known[2]
