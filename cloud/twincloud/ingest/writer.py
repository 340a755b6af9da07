"""The one writer of the coordinator: decodes what waits in one thread, commits it in another, then acknowledges.

    streams ─▶ waiting ─decode thread─▶ decoded ─commit thread─▶ Stored ─▶ streams
        └────▶ beats, the newest of each gateway ─────▲

While one commit waits for the disk the next ones gather: everything that waits, of all gateways, goes into one
transaction, so the dearer a commit is, the more each one carries. Heartbeats gather too, for a second: they say
nothing that a hello does not say again, so a coordinator that is killed meanwhile has lost nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NoReturn, Protocol

import structlog

from twincloud.ingest.decode import arrivals_of
from twincloud.ingest.limits import IngestLimits
from twincloud.storage.contract import Arrival, Beat, Commit, GatewayKey, Ingest
from twinmodel.clock import Clock
from twinmodel.errors import StorageError, TwinError
from twinsync.item import Item
from twinsync.session.messages import Rejected
from twinsync.session.server import Credit, Refused, Stored

_log = structlog.get_logger(__name__)

_TICKETS_PER_TURN_MAX = 64
_ITEMS_PER_COMMIT_MAX = 2048


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


@dataclass(slots=True)
class _Share:
    """What one stream has in a transaction."""

    sender: Sender
    session: int
    tickets: list[Ticket] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)


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
        self._beats: dict[GatewayKey, tuple[Sender, Beat]] = {}
        self._beaten = asyncio.Event()
        self._failing = False
        self.pending_bytes = 0
        self.on_relief: Callable[[], None] = lambda: None

    def submit(self, ticket: Ticket) -> None:
        """Queues a ticket; the credit of its stream bounds how many there are."""
        self.pending_bytes += ticket.bytes
        self._waiting.append(ticket)
        self._arrived.set()

    def note(self, sender: Sender, beat: Beat) -> None:
        """Takes a heartbeat; only the newest one of a gateway is kept, and written within `beat_s`."""
        _, older = self._beats.get(beat.gateway, (sender, beat))
        self._beats[beat.gateway] = (sender, _with_news_of(older, beat))
        self._beaten.set()

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
                group.create_task(self._beat_all(committer), name="ingest-heartbeats")
        raise AssertionError("the loops run for ever")

    async def _decode_all(self, thread: ThreadPoolExecutor) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            turn = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TICKETS_PER_TURN_MAX))]
            if not self._waiting:
                self._arrived.clear()
            for ticket, arrivals in zip(turn, await loop.run_in_executor(thread, self._decode, turn), strict=True):
                if isinstance(arrivals, Exception):
                    self._fail(ticket.sender, [ticket], arrivals)
                else:
                    self._decoded.append(_Decoded(ticket, arrivals))
                    self._ready.set()

    def _decode(self, turn: Sequence[Ticket]) -> list[Sequence[Arrival] | Exception]:
        """Arrivals of each ticket, or why there are none; in the decode thread."""
        answers: list[Sequence[Arrival] | Exception] = []
        for ticket in turn:
            try:
                answers.append(arrivals_of(self._store, ticket.sender.gateway, ticket.items))
            # The writer serves all gateways: one gateway's failure must not end it.
            except Exception as error:  # noqa: BLE001 - see above; it is told to the gateway and logged
                answers.append(error)
        return answers

    async def _commit_all(self, thread: ThreadPoolExecutor) -> NoReturn:
        while True:
            await self._ready.wait()
            shares = self._gather()
            if not self._decoded:
                self._ready.clear()
            await self._commit(thread, shares)
            if self.pending_bytes <= self._limits.pending_bytes_max // 2:
                self.on_relief()

    def _gather(self) -> list[_Share]:
        """What waits, by stream and in order, up to the bound of a transaction."""
        shares: dict[int, _Share] = {}
        count = 0
        while self._decoded and (not count or count + len(self._decoded[0].arrivals) <= _ITEMS_PER_COMMIT_MAX):
            decoded = self._decoded.popleft()
            ticket = decoded.ticket
            if not ticket.sender.alive:
                self._release([ticket])
                continue
            share = shares.setdefault(id(ticket.sender), _Share(ticket.sender, ticket.session))
            share.tickets.append(ticket)
            share.arrivals.extend(decoded.arrivals)
            count += len(decoded.arrivals)
        return list(shares.values())

    async def _commit(self, thread: ThreadPoolExecutor, shares: Sequence[_Share]) -> None:
        """Commits the shares of several gateways in one transaction; when that trips a bug, each in its own."""
        if not shares:
            return
        requests = [(share.sender.gateway, share.session, share.arrivals) for share in shares]
        received_ns = min(ticket.received_ns for share in shares for ticket in share.tickets)
        answers: Sequence[Commit | Exception]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(
                thread, self._store.commit_many, requests, received_ns
            )
        # The writer serves all gateways: one gateway's failure must not end it.
        except Exception as error:  # noqa: BLE001 - see above; it is told to the gateways and logged
            if len(shares) > 1 and not isinstance(error, TwinError):
                for share in shares:
                    await self._commit(thread, [share])
                return
            answers = [error] * len(shares)
        else:
            self._heal()
        for share, answer in zip(shares, answers, strict=True):
            if isinstance(answer, Exception):
                self._fail(share.sender, share.tickets, answer)
            else:
                self._acknowledge(share, answer)

    async def _beat_all(self, thread: ThreadPoolExecutor) -> NoReturn:
        """Writes the heartbeats that gathered; those the store refuses to write now are written with the next ones."""
        loop = asyncio.get_running_loop()
        while True:
            await self._beaten.wait()
            await asyncio.sleep(self._limits.beat_s)
            self._beaten.clear()
            beats, self._beats = self._beats, {}
            told = list(beats.values())
            try:
                answers = await loop.run_in_executor(thread, self._store.heartbeats, [beat for _, beat in told])
            except TwinError as error:
                self._note_failure(error)
                for key, unwritten in beats.items():
                    newest, newer = self._beats.get(key, unwritten)
                    self._beats[key] = (newest, _with_news_of(unwritten[1], newer))
                continue
            # As in `_commit`; a heartbeat that trips a bug would do so again.
            except Exception:  # noqa: BLE001 - see above; it is logged
                _log.exception("heartbeats lost", gateways=len(told))
                continue
            self._heal()
            for (sender, _), refusal in zip(told, answers, strict=True):
                if refusal is not None and sender.alive:
                    sender.feed(refusal_of(refusal, self._limits.retry_after_ns))

    def _acknowledge(self, share: _Share, commit: Commit) -> None:
        released = self._release(share.tickets)
        rejected = tuple(Rejected(*letter) for letter in commit.rejected)
        items = sum(len(ticket.items) for ticket in share.tickets)
        share.sender.feed(Stored(commit.marks, rejected, commit.nack, released, items, self.credit()))
        try:
            self._on_commit(share.sender.gateway, commit)
        # What is committed and acknowledged stays so, and the writer serves all gateways.
        except Exception:  # noqa: BLE001 - see above; it is logged
            _log.exception("commit not told", gateway=share.sender.gateway.gateway)

    def _release(self, tickets: Sequence[Ticket]) -> int:
        released = sum(ticket.bytes for ticket in tickets)
        self.pending_bytes -= released
        return released

    def _fail(self, sender: Sender, tickets: Sequence[Ticket], error: Exception) -> None:
        self._release(tickets)
        if not isinstance(error, TwinError):
            _log.error("ingest failed", gateway=sender.gateway.gateway, exc_info=error)
        elif isinstance(error, StorageError):
            self._note_failure(error)
        sender.feed(refusal_of(error, self._limits.retry_after_ns))

    def _note_failure(self, error: TwinError) -> None:
        if not self._failing:
            self._failing = True
            _log.error("store refuses commits", reason=error.reason, detail=error.message)

    def _heal(self) -> None:
        if self._failing:
            self._failing = False
            _log.info("store takes commits again")


def _with_news_of(older: Beat, beat: Beat) -> Beat:
    """A heartbeat that takes the place of an older one, with what only that one said of the same session."""
    if older.session != beat.session:
        return beat
    return replace(
        beat,
        offset_ns=older.offset_ns if beat.offset_ns is None else beat.offset_ns,
        commandables=older.commandables if beat.commandables is None else beat.commandables,
    )
