"""The one writer of the coordinator: decodes what waits in one thread, commits it in another, then acknowledges.

    streams ─▶ waiting ─decode thread─▶ decoded ─commit thread─▶ Stored ─▶ streams

While one commit waits for the disk the next ones gather: everything that waits of a gateway goes into one
transaction, so the dearer a commit is, the more each one carries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn, Protocol

import structlog

from twincloud.ingest.decode import arrivals_of
from twincloud.ingest.limits import IngestLimits
from twincloud.storage.contract import Arrival, Commit, GatewayKey, Ingest
from twinmodel.clock import Clock
from twinmodel.errors import StorageError, TwinError
from twinsync.item import Item
from twinsync.session.messages import Rejected
from twinsync.session.server import Credit, Refused, Stored

_log = structlog.get_logger(__name__)

_TICKETS_PER_TURN_MAX = 64
_ITEMS_PER_COMMIT_MAX = 1024


class Sender(Protocol):
    """A stream, as the writer sees it."""

    @property
    def gateway(self) -> GatewayKey:
        """Whose stream it is."""
        ...

    @property
    def alive(self) -> bool:
        """Whether anybody still waits for an answer."""
        ...

    def feed(self, event: Stored | Refused) -> None:
        """Takes the answer, in the event loop."""
        ...


@dataclass(frozen=True, slots=True)
class Ticket:
    """Items of one message that wait for their commit."""

    sender: Sender
    session: int
    items: tuple[Item, ...]
    bytes: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class _Decoded:
    ticket: Ticket
    arrivals: Sequence[Arrival]


def refusal_of(error: Exception, retry_after_ns: int) -> Refused:
    """What a gateway is told when its request failed: to come back when it is the coordinator's fault."""
    if isinstance(error, StorageError):
        return Refused("RETRY_AFTER", str(error), retry_after_ns)
    if isinstance(error, TwinError):
        return Refused(error.reason, error.message)
    return Refused("RETRY_AFTER", "the coordinator failed; see its log", retry_after_ns)


class Writer:
    """Takes tickets from all streams; `run` must be running for them to be answered."""

    def __init__(
        self, store: Ingest, clock: Clock, on_commit: Callable[[GatewayKey, Commit], None], limits: IngestLimits
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_commit = on_commit
        self._limits = limits
        self._waiting: deque[Ticket] = deque()
        self._decoded: deque[_Decoded] = deque()
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        self._failing = False
        self.pending_bytes = 0
        self.on_relief: Callable[[], None] = lambda: None

    def submit(self, ticket: Ticket) -> None:
        """Queues a ticket; the credit of its stream bounds how many there are."""
        self.pending_bytes += ticket.bytes
        self._waiting.append(ticket)
        self._arrived.set()

    def credit(self) -> Credit:
        """What a gateway may have in flight at the present load."""
        if self.pending_bytes >= self._limits.pending_bytes_max:
            return Credit(0, 0)
        return Credit(self._limits.window_bytes, self._limits.window_items)

    async def run(self) -> NoReturn:
        """Decodes and commits until cancelled; what was not committed then was not acknowledged either."""
        with (
            ThreadPoolExecutor(1, thread_name_prefix="decode") as decoder,
            ThreadPoolExecutor(1, thread_name_prefix="commit") as committer,
        ):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._decode_all(decoder), name="ingest-decode")
                group.create_task(self._commit_all(committer), name="ingest-commit")
        raise AssertionError("both loops run for ever")

    async def _decode_all(self, thread: ThreadPoolExecutor) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            turn = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TICKETS_PER_TURN_MAX))]
            if not self._waiting:
                self._arrived.clear()
            for ticket in turn:
                try:
                    arrivals = await loop.run_in_executor(
                        thread, arrivals_of, self._store, ticket.sender.gateway, ticket.items
                    )
                # The writer serves all gateways: one gateway's failure must not end it.
                except Exception as error:  # noqa: BLE001 - see above; it is told to the gateway and logged
                    self._fail([ticket], error)
                else:
                    self._decoded.append(_Decoded(ticket, arrivals))
                    self._ready.set()

    async def _commit_all(self, thread: ThreadPoolExecutor) -> NoReturn:
        while True:
            await self._ready.wait()
            self._ready.clear()
            groups: dict[int, list[_Decoded]] = {}
            while self._decoded:
                decoded = self._decoded.popleft()
                groups.setdefault(id(decoded.ticket.sender), []).append(decoded)
            for group in groups.values():
                for part in _parts(group):
                    await self._commit(thread, part)
            if self.pending_bytes <= self._limits.pending_bytes_max // 2:
                self.on_relief()

    async def _commit(self, thread: ThreadPoolExecutor, group: Sequence[_Decoded]) -> None:
        tickets = [decoded.ticket for decoded in group]
        first = tickets[0]
        if not first.sender.alive:
            self._release(tickets)
            return
        arrivals = [arrival for decoded in group for arrival in decoded.arrivals]
        gateway = first.sender.gateway
        try:
            commit = await asyncio.get_running_loop().run_in_executor(
                thread, self._store.commit, gateway, first.session, arrivals, first.received_ns
            )
        # The writer serves all gateways: one gateway's failure must not end it.
        except Exception as error:  # noqa: BLE001 - see above; it is told to the gateway and logged
            self._fail(tickets, error)
            return
        if self._failing:
            self._failing = False
            _log.info("store takes commits again")
        released = self._release(tickets)
        rejected = tuple(Rejected(*letter) for letter in commit.rejected)
        items = sum(len(ticket.items) for ticket in tickets)
        first.sender.feed(Stored(commit.marks, rejected, commit.nack, released, items, self.credit()))
        self._on_commit(gateway, commit)

    def _release(self, tickets: Sequence[Ticket]) -> int:
        released = sum(ticket.bytes for ticket in tickets)
        self.pending_bytes -= released
        return released

    def _fail(self, tickets: Sequence[Ticket], error: Exception) -> None:
        self._release(tickets)
        sender = tickets[0].sender
        if not isinstance(error, TwinError):
            _log.error("ingest failed", gateway=sender.gateway.gateway, exc_info=error)
        elif isinstance(error, StorageError) and not self._failing:
            self._failing = True
            _log.error("store refuses commits", reason=error.reason, detail=error.message)
        sender.feed(refusal_of(error, self._limits.retry_after_ns))


def _parts(group: Sequence[_Decoded]) -> list[list[_Decoded]]:
    """Tickets of one stream in order, cut so that no transaction grows beyond its bound."""
    parts: list[list[_Decoded]] = []
    count = 0
    for decoded in group:
        if not parts or count + len(decoded.arrivals) > _ITEMS_PER_COMMIT_MAX:
            parts.append([])
            count = 0
        parts[-1].append(decoded)
        count += len(decoded.arrivals)
    return parts
