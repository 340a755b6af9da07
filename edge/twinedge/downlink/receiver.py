"""Takes directives, brings about what they want, and says of each how it ended: APPLIED, REJECTED or SUPERSEDED.

    uplink ─offer()─▶ waiting ─▶ handler of its kind ─▶ outcome ─▶ uplink
                                  │ MODEL: fetch ─▶ verify ─▶ build ─▶ desired ─▶ slot

A directive waits through any outage of the link or the disk; only its deadline, a newer version for its target or a
lasting reason ends it otherwise. Of a kind in `in_turn` one that has begun is let end first: the newer one waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import NoReturn

import structlog

from twinedge.downlink.outcomes import Outcomes
from twinedge.downlink.ports import Build, Fetch, PackageStore
from twinedge.slot import Slot
from twinmodel.clock import SECOND_NS, Clock
from twinmodel.errors import ConflictError, InputError, MissingError, StorageError, TwinError, UnreachableError
from twinmodel.estimator import Estimator
from twinmodel.package.archive import ModelPackage
from twinsync.backoff import Backoff
from twinsync.directive import Directive, DirectiveKind, DirectiveState, Outcome, Running
from twinsync.transfer import ARTIFACT_BYTES_MAX, Transfer

_log = structlog.get_logger(__name__)

WAITING_MAX = 256
LEFT_OPEN_NS = 365 * 86_400 * SECOND_NS
"""When a directive that a handler left open would be tried again, were it never concluded."""
ALTERED_MAX = 3

Handler = Callable[[Directive], Awaitable[None]]


class StillOpenError(Exception):
    """A handler has begun what a directive wants; `Receiver.conclude` says later how that ended."""


class _SupersededError(Exception):
    """A newer directive for the same target has come or has been applied."""


@dataclass(slots=True)
class _Waiting:
    """A directive that has no outcome yet; `due_ns` is the boot time of its next try, `begun` that it is on its way."""

    directive: Directive
    backoff: Backoff
    due_ns: int = 0
    altered: int = 0
    begun: bool = False


class Receiver:
    """The downlink of one gateway; all calls come from the event loop, `run` must be running.

    Args:
        store: packages, and what should run.
        outcomes: what became of earlier directives.
        slots: twin -> where its model runs.
        build: makes an estimator for a twin.
        fetch: where packages come from.
        clock: wall clock for deadlines, boot clock for waits.
        random: jitter.
        on_state: told of each outcome, `Uplink.report`.

    Attributes:
        handlers: what brings about a directive of a kind. One returns when it is done, raises StorageError or
            UnreachableError to be tried again, StillOpenError to say later how it ended, and any other TwinError to
            have it rejected with that reason.
        digests: target that is no twin -> digest of what is in force for it.
        in_turn: kinds of which a newer directive waits until the one that has begun is concluded.
    """

    def __init__(
        self,
        store: PackageStore,
        outcomes: Outcomes,
        slots: Mapping[str, Slot],
        build: Build,
        fetch: Fetch,
        *,
        clock: Clock,
        random: Random,
        on_state: Callable[[DirectiveState], None],
    ) -> None:
        self._store = store
        self._outcomes = outcomes
        self._slots = slots
        self._build = build
        self._fetch = fetch
        self._clock = clock
        self._random = random
        self._on_state = on_state
        self._waiting: dict[str, _Waiting] = {}
        self._next: dict[str, Directive] = {}
        self._superseded: list[Directive] = []
        # Target -> the directive that put its present model there; and what has failed since.
        self._applied: dict[str, Directive] = {}
        self._fallen: list[tuple[Directive, str]] = []
        self._concluded: list[tuple[Directive, TwinError | None]] = []
        self._news = asyncio.Event()
        self.digests: dict[str, Callable[[], bytes]] = {}
        self.in_turn: set[DirectiveKind] = set()
        self.watch_slots()
        self.handlers: dict[DirectiveKind, Handler] = {DirectiveKind.MODEL: self._run_model}

    def watch_slots(self) -> None:
        """Hears of models that fail in slots, also in those that came since."""
        for slot in self._slots.values():
            slot.on_fall_back = self._fell_back

    def conclude(self, directive: Directive, error: TwinError | None) -> None:
        """What a handler left open has ended: well, or with the error it is rejected for."""
        self._concluded.append((directive, error))
        self._news.set()

    def offer(self, directive: Directive) -> None:
        """Takes a directive; one that has an outcome is answered with it, one that is too much comes again later."""
        known = self._outcomes.get(directive.id)
        if known is not None:
            self._on_state(known)
            return
        waiting = self._waiting.get(directive.target)
        if waiting is None:
            if len(self._waiting) >= WAITING_MAX:
                _log.warning("directive left to a later session", directive=directive.id)
                return
            self._waiting[directive.target] = _Waiting(directive, Backoff(self._random))
        elif waiting.directive.id == directive.id:
            pass
        elif waiting.directive.version > directive.version:
            self._superseded.append(directive)
        elif waiting.begun:
            self._offer_next(directive)
        else:
            self._superseded.append(waiting.directive)
            self._waiting[directive.target] = _Waiting(directive, Backoff(self._random))
        self._news.set()

    def _offer_next(self, directive: Directive) -> None:
        """Keeps one for when the one that has begun is concluded; of several the newest."""
        after = self._next.setdefault(directive.target, directive)
        if after.id == directive.id:
            return
        older, newer = sorted((after, directive), key=lambda one: one.version)
        self._superseded.append(older)
        self._next[directive.target] = newer

    def states(self) -> tuple[DirectiveState, ...]:
        """Outcomes the coordinator may not have, oldest first."""
        return self._outcomes.states()

    def running(self) -> tuple[Running, ...]:
        """The models that run now."""
        return tuple(running for slot in self._slots.values() if (running := slot.running()) is not None)

    def _fell_back(self, twin: str, failed: Estimator, why: str) -> None:
        """A new model failed in its soak and the one before it runs again: its directive is told to be REJECTED."""
        directive = self._applied.pop(twin, None)
        if directive is not None and directive.digest == failed.package.digest:
            self._fallen.append((directive, why))
            self._news.set()

    def open(self) -> tuple[Directive, ...]:
        """Directives that have no outcome yet."""
        return (*(waiting.directive for waiting in self._waiting.values()), *self._next.values())

    async def run(self) -> NoReturn:
        """Works through directives until cancelled; what is cancelled comes again with the next session."""
        while True:
            while self._superseded:
                directive = self._superseded.pop()
                await self._settle(directive, Outcome.SUPERSEDED, "", "a newer version for this target has come")
            while self._fallen:
                await self._take_back(*self._fallen.pop())
            while self._concluded:
                await self._conclude(*self._concluded.pop())
            due = min(self._waiting.values(), key=lambda w: w.due_ns, default=None)
            now_ns = self._clock.boot_ns()
            if due is not None and due.due_ns <= now_ns:
                await self._try(due)
                continue
            self._news.clear()
            try:
                async with asyncio.timeout(None if due is None else (due.due_ns - now_ns) / SECOND_NS):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _try(self, waiting: _Waiting) -> None:
        """One attempt at a directive; keeps it waiting when another may go better."""
        directive = waiting.directive
        waiting.begun = directive.kind in self.in_turn
        try:
            self._check_deadline(directive)
            await self.handlers.get(directive.kind, _unknown_kind)(directive)
        except StillOpenError:
            waiting.due_ns = self._clock.boot_ns() + LEFT_OPEN_NS
        except _SupersededError:
            await self._end(waiting, Outcome.SUPERSEDED, "", "a newer version for this target is in place")
        except (UnreachableError, StorageError) as error:
            if waiting.backoff.failures == 0:
                _log.warning("directive waits", directive=directive.id, reason=error.reason, detail=error.message)
            self._retry(waiting)
        except TwinError as error:
            waiting.altered += error.reason == "PACKAGE_ALTERED"
            if error.reason == "PACKAGE_ALTERED" and waiting.altered < ALTERED_MAX:
                self._retry(waiting)
            else:
                await self._end(waiting, Outcome.REJECTED, error.reason, error.message)
        except Exception as error:  # noqa: BLE001 - one that meets a defect must not keep the others waiting for ever
            _log.exception("directive met a defect", directive=directive.id)
            await self._end(waiting, Outcome.REJECTED, "INTERNAL", f"{type(error).__name__}: {error}")
        else:
            await self._end(waiting, Outcome.APPLIED, "", "")

    async def _conclude(self, directive: Directive, error: TwinError | None) -> None:
        waiting = self._waiting.get(directive.target)
        if waiting is None or waiting.directive.id != directive.id:
            return  # a newer one has taken its place and its outcome
        if error is None:
            await self._end(waiting, Outcome.APPLIED, "", "")
        else:
            await self._end(waiting, Outcome.REJECTED, error.reason, error.message)

    def _retry(self, waiting: _Waiting) -> None:
        waiting.begun = False
        if (after := self._next.pop(waiting.directive.target, None)) is not None:
            self.offer(after)
            return
        waiting.due_ns = waiting.backoff.failed(self._clock.boot_ns())
        deadline_ns = waiting.directive.deadline_ns
        if deadline_ns:
            left_ns = max(deadline_ns - self._clock.wall_ns(), 0) + 1
            waiting.due_ns = min(waiting.due_ns, self._clock.boot_ns() + left_ns)

    async def _end(self, waiting: _Waiting, outcome: Outcome, reason: str, detail: str) -> None:
        if self._waiting.get(waiting.directive.target) is waiting:
            del self._waiting[waiting.directive.target]
            if (after := self._next.pop(waiting.directive.target, None)) is not None:
                self.offer(after)
        elif waiting.directive in self._superseded:
            self._superseded.remove(waiting.directive)
        await self._settle(waiting.directive, outcome, reason, detail)

    async def _take_back(self, directive: Directive, why: str) -> None:
        """Has a restart begin with the model that runs again, and says what became of the directive."""
        if self._store.version_of(directive.target) == directive.version:
            try:
                await asyncio.to_thread(self._store.take_back, directive.target)
            except StorageError as error:
                _log.warning("failed model still desired", directive=directive.id, reason=error.reason)
        await self._settle(directive, Outcome.REJECTED, "MODEL_DIVERGED", f"{directive.name}: {why}")

    async def _settle(self, directive: Directive, outcome: Outcome, reason: str, detail: str) -> None:
        """Keeps an outcome and tells it; it is told even when the disk refuses to keep it."""
        slot = self._slots.get(directive.target)
        running = slot.running() if slot is not None else None
        digest = running.digest if running is not None else self.digests.get(directive.target, bytes)()
        state = DirectiveState(directive.id, outcome, reason, detail, digest, self._clock.wall_ns())
        kept = self._outcomes.add(state)
        try:
            await asyncio.to_thread(self._outcomes.save, kept)
        except StorageError as error:
            _log.warning("outcome not kept", directive=directive.id, reason=error.reason, detail=error.message)
        _log.info(
            "directive ended", directive=directive.id, target=directive.target, outcome=outcome.name, reason=reason
        )
        self._on_state(state)

    async def _run_model(self, directive: Directive) -> None:
        """Has the twin run the package; raises what forbids it."""
        slot = self._slots.get(directive.target)
        if slot is None:
            raise MissingError("UNKNOWN_TWIN", f"this gateway has no twin {directive.target!r}")
        if directive.version < self._store.version_of(directive.target):
            raise _SupersededError
        current = slot.current()
        if current is not None and current.package.digest == directive.digest:
            await self._want(directive)
            return
        package = await self._package(directive)
        estimator = await asyncio.to_thread(self._build, directive.target, package)
        self._check_newest(directive)
        self._check_deadline(directive)
        # What should run is durable before it runs: a restart in between starts with it.
        await self._want(directive)
        try:
            slot.offer(estimator)
        except ConflictError:
            await asyncio.to_thread(self._store.take_back, directive.target)
            raise
        self._applied[directive.target] = directive

    async def _want(self, directive: Directive) -> None:
        await asyncio.to_thread(
            self._store.want,
            directive.target,
            digest=directive.digest,
            version=directive.version,
            name=directive.name,
        )

    async def _package(self, directive: Directive) -> ModelPackage:
        """The verified package, from the store or from the coordinator."""
        if not 0 < directive.size <= ARTIFACT_BYTES_MAX:
            raise InputError("LIMIT_EXCEEDED", f"a package of {directive.size} bytes, at most {ARTIFACT_BYTES_MAX}")
        if await asyncio.to_thread(self._store.has, directive.digest):
            return await asyncio.to_thread(self._store.load, directive.digest)
        part = self._store.part(directive.digest)
        size = await asyncio.to_thread(part.size)
        transfer = Transfer(directive.digest, offset=size, bytes_max=directive.size)
        if size > directive.size:
            part.discard()
            transfer = Transfer(directive.digest, bytes_max=directive.size)
        if transfer.offset < directive.size:
            async with aclosing(self._fetch(directive.digest, transfer.offset)) as chunks:
                async for offset, total, content in chunks:
                    transfer.accept(offset, total, len(content))
                    await asyncio.to_thread(part.append, content, offset)
                    self._check_newest(directive)
            if not transfer.complete:
                raise UnreachableError("COORDINATOR_UNREACHABLE", f"{directive.name}: the download stopped early")
        return await asyncio.to_thread(self._store.take_part, directive.digest)

    def _check_newest(self, directive: Directive) -> None:
        waiting = self._waiting.get(directive.target)
        if waiting is not None and waiting.directive.id != directive.id:
            raise _SupersededError

    def _check_deadline(self, directive: Directive) -> None:
        if 0 < directive.deadline_ns < self._clock.wall_ns():
            raise ConflictError("DEADLINE_PASSED", f"{directive.name or directive.id} came too late")


async def _unknown_kind(_directive: Directive) -> None:
    raise InputError("PROTOCOL_VIOLATION", "this agent knows no such kind of directive")
