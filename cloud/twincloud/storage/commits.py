"""The commit: session current, dedupe, items, state, event and marks in one durable transaction.

    commit_many ─▶ load what the requests touch ─▶ judge and fold in memory ─▶ write ─▶ COMMIT ─▶ results

Several gateways share one fsync. A request that is refused (FENCED, PROTOCOL_VIOLATION) is refused before anything
of it is taken and leaves the others alone; when the disk refuses, all of them fail and nothing is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection

from twincloud.storage.commit_times import commit_time_fast, note_commit
from twincloud.storage.contract import Arrival, Commit, GatewayKey
from twincloud.storage.newest import NewestStore
from twincloud.storage.outbox import prune_events
from twincloud.storage.part import Bound
from twincloud.storage.work import Taken, Work
from twinmodel.errors import TwinError
from twinsync.item import Block

Request = tuple[GatewayKey, int, Sequence[Arrival]]
Also = Callable[[Connection, Sequence[Commit | TwinError]], None]
"""More to be done in a transaction, once its answers are known."""

PRUNE_EVERY = 64


class CommitStore(NewestStore):
    """Commits items; see `Ingest`."""

    _commits = 0

    def commit(self, gateway: GatewayKey, session: int, arrivals: Sequence[Arrival], received_ns: int) -> Commit:
        """See `Ingest.commit`."""
        result = self.commit_many([(gateway, session, arrivals)], received_ns)[0]
        if isinstance(result, TwinError):
            raise result
        return result

    def commit_many(
        self, requests: Sequence[Request], received_ns: int, also: Also | None = None
    ) -> list[Commit | TwinError]:
        """Commits the items of several gateways in one transaction; an answer per request, in their order.

        A request may be refused alone: its answer is the error that `commit` would raise. What `also` writes belongs
        to the same transaction; nothing at all is committed when it raises.

        Raises:
            StorageError: the disk refuses; nothing of any request was committed.
        """
        if not requests:
            return []
        with self._database.write() as connection:
            now_ns = commit_time_fast(self._database, connection, self._clock.wall_ns())
            work = Work(connection, self._database, self._boots, self._newest, now_ns, received_ns)
            self._look_at_bounds(connection)
            ids = [self._known_gateway(connection, key) for key, _, _ in requests]
            work.load([(i, arrivals) for i, (_, _, arrivals) in zip(ids, requests, strict=True) if isinstance(i, int)])
            taken = [self._take(connection, work, i, *request) for i, request in zip(ids, requests, strict=True)]
            work.write()
            if work.decoded:  # blocks are numbered right behind their commit
                note_commit(self._database, connection, min(work.decoded) - 1, now_ns)
            answers = [one if isinstance(one, TwinError) else work.finish(one) for one in taken]
            if also is not None:
                also(connection, answers)
            self._commits += 1
            if self._commits % PRUNE_EVERY == 0:
                prune_events(connection, self._clock.wall_ns())
        # Only what is committed is remembered: readers find the newest blocks decoded.
        for block, decoded in work.decoded.items():
            self._decoded.put(block, decoded)
        for gateway_id, latest in work.latest.items():
            self._latest.put(gateway_id, latest)
        return answers

    def _known_gateway(self, connection: Connection, key: GatewayKey) -> int | TwinError:
        try:
            return self._gateway_id(connection, key)
        except TwinError as error:
            return error

    def _take(
        self,
        connection: Connection,
        work: Work,
        gateway_id: int | TwinError,
        key: GatewayKey,
        session: int,
        arrivals: Sequence[Arrival],
    ) -> Taken | TwinError:
        if isinstance(gateway_id, TwinError):
            return gateway_id
        try:
            return work.take(key, gateway_id, session, arrivals, self._bounds(connection, gateway_id, arrivals))
        except TwinError as error:
            return error

    def _bounds(self, connection: Connection, gateway_id: int, arrivals: Sequence[Arrival]) -> Mapping[bytes, Bound]:
        """What the catalogues of readable blocks bind; a catalogue that was never sent makes its block unreadable."""
        bounds = {}
        for digest in {a.item.content.schema for a in arrivals if isinstance(a.item.content, Block) and a.batches}:
            schema_id = self._schema_id(connection, gateway_id, digest)
            if schema_id is not None:
                catalogue = self._catalogue_by_id(connection, schema_id)
                bounds[digest] = self._bound(connection, gateway_id, schema_id, catalogue, writing=True)
        return bounds
