"""The spool as the uplink asks for it: every call awaited in the spool's own thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from twinedge.spool.store import Spool
from twinedge.storage import Storage
from twinedge.uplink.ports import Backlog, HelloFacts
from twinmodel.clock import SECOND_NS, ClockQuality
from twinmodel.errors import StorageError, UnreachableError
from twinmodel.signal import Catalogue
from twinsync import limits
from twinsync.item import Item, Mark
from twinsync.session.messages import Coarsen

_log = structlog.get_logger(__name__)

HISTORY_BYTES = 32 << 10
"""What has to wait before it is set apart as history: four seconds of a link of 64 kbit/s."""
HISTORY_AGE_NS = 60 * SECOND_NS
"""How old the oldest of it has to be: links that come and go do not make a boot each."""
REPLACED_MAX = 4096
"""Catalogues of this run that are known to be past; one that was forgotten is taken for a new one."""


class SpooledItems:
    """Implements `SpoolPort` over the storage thread.

    Args:
        storage: the spool's thread.
        clock_quality: how far the wall clock can be trusted now.
        rng_bytes: source of boot ids, `os.urandom` outside of tests; None never sets history apart.
    """

    def __init__(
        self,
        storage: Storage,
        clock_quality: Callable[[], ClockQuality],
        rng_bytes: Callable[[int], bytes] | None = None,
    ) -> None:
        self._storage = storage
        self._clock_quality = clock_quality
        self._rng_bytes = rng_bytes
        self._present: Catalogue | None = None
        self._newest: Catalogue | None = None
        self._replaced: dict[bytes, None] = {}
        self._named: frozenset[bytes] = frozenset()
        self._boot = b""

    def announce(self, catalogue: Catalogue) -> None:
        """What is measured from now on is of this catalogue; `use` makes it durable."""
        if self._newest is not None:
            self._replaced[self._newest.digest] = None
        self._replaced.pop(catalogue.digest, None)
        self._newest = catalogue
        if len(self._replaced) > REPLACED_MAX:
            del self._replaced[next(iter(self._replaced))]

    async def use(self, catalogue: Catalogue) -> None:
        """Makes a catalogue the present one: durable, and the last of the schemas a session opens with."""
        await self._storage.call(Spool.put_catalogue, catalogue)
        self._present = catalogue

    async def hello_facts(self) -> HelloFacts:
        """See `SpoolPort.hello_facts`."""
        return await self._storage.call(self._hello_facts)

    def _set_history_apart(self, spool: Spool) -> None:
        """Before a session opens: what the outage left gets numbers of its own, so that live items pass it."""
        if self._rng_bytes is None or not spool.history_waits(HISTORY_BYTES, HISTORY_AGE_NS):
            return
        try:
            spool.begin_boot(self._rng_bytes(limits.BOOT_BYTES), self._clock_quality())
        except StorageError as error:
            _log.debug("history not set apart", reason=error.reason)

    def _hello_facts(self, spool: Spool) -> HelloFacts:
        try:
            spool.begin()
        except StorageError:
            # What older boots left can be sent, as far as there is any.
            if not spool.boots_since(b""):
                raise
        self._set_history_apart(spool)
        self._boot = spool.boot.id
        spool.forget_marks()
        # Every boot that is kept: a coordinator that was restored must find the head it remembers in the chain.
        boots, ranges, schemas = spool.boots_since(b""), spool.ranges(), spool.schemas()
        since = spool.boots_since()
        if len(since) > limits.HELLO_BOOTS_MAX:
            # More starts without a link than a hello has room for: the coordinator follows from the one it knows to
            # the present one in several sessions, each of which ends where its items would be of a boot not named.
            boots = since[: limits.HELLO_BOOTS_MAX]
            self._boot = boots[-1].id
            named = {boot.id for boot in boots}
            ranges = [one for one in ranges if one.boot in named]
        if self._newest is not None and self._newest is not self._present:
            with suppress(StorageError):  # a disk that refuses it holds no block of it either
                spool.put_catalogue(self._newest)
                self._present = self._newest
        if self._present is not None:
            present = self._present.digest
            schemas = [*(digest for digest in schemas if digest != present), present]
        self._named = frozenset(schemas)
        return HelloFacts(tuple(boots), tuple(ranges), self._clock_quality(), tuple(schemas))

    async def unsent(self, after: Sequence[Mark], bytes_max: int, items_max: int) -> Sequence[Item]:
        """See `SpoolPort.unsent`; raises UnreachableError BOOT_CHANGED while the hello lacks the present boot."""
        return await self._storage.call(self._unsent, after, bytes_max, items_max)

    def _unsent(self, spool: Spool, after: Sequence[Mark], bytes_max: int, items_max: int) -> Sequence[Item]:
        if spool.boot.id != self._boot:
            raise UnreachableError("BOOT_CHANGED", "the session opens anew with the boots its hello did not name")
        return spool.unsent(after, bytes_max=bytes_max, items_max=items_max)

    async def acknowledge(self, marks: Sequence[Mark]) -> None:
        """See `SpoolPort.acknowledge`."""
        await self._storage.call(Spool.acknowledge, marks)

    async def confirm_boot(self) -> None:
        """See `SpoolPort.confirm_boot`."""
        await self._storage.call(self._begin_session)

    def _begin_session(self, spool: Spool) -> None:
        # What the coordinator can do without it says anew in each session.
        spool.wishes.forget()
        spool.confirm_boot(self._boot)

    async def rewind(self, marks: Sequence[Mark]) -> None:
        """See `SpoolPort.rewind`."""
        await self._storage.call(_rewind, marks)

    async def catalogue(self, digest: bytes) -> Catalogue | None:
        """See `SpoolPort.catalogue`; raises UnreachableError BOOT_CHANGED for one that must not be told of last.

        Telemetry waits longer for its commit than states do, so that a block of a catalogue that was replaced may come
        behind the first one of the next. Told of in the open session it would be the present one to the coordinator.
        """
        if digest in self._replaced and digest not in self._named:
            raise UnreachableError("BOOT_CHANGED", "the session opens anew, to name an earlier catalogue as such")
        return await self._storage.call(Spool.catalogue, digest)

    async def coarsen(self, wish: Coarsen) -> None:
        """See `SpoolPort.coarsen`."""
        await self._storage.call(lambda spool: spool.wishes.take(wish))

    async def backlog(self) -> Backlog:
        """See `SpoolPort.backlog`."""
        waiting = await self._storage.call(Spool.backlog)
        return Backlog(waiting.bytes, waiting.samples, waiting.oldest_ns or 0)


def _rewind(spool: Spool, marks: Sequence[Mark]) -> None:
    for mark in marks:
        spool.rewind(mark.boot, mark.stream, mark.next_seq)
