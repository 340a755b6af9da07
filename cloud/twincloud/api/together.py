"""Requests that wait together for one call of the store: while it answers some, the next ones gather.

A transaction costs most of what a small request does; shared by all who ask at the same moment, it costs each of them
little, and nobody waits longer than for the call before. What is asked is answered after it was asked: a reader sees
what was committed before it came.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from twincloud.api.threads import Threads
from twincloud.storage.records_requests import Claim
from twincloud.storage.stamps import current, under
from twinmodel.errors import UnreachableError

Question = TypeVar("Question")
Answer = TypeVar("Answer")

TOGETHER_MAX = 256
WAITING_MAX = 4_096


class Together(Generic[Question, Answer]):
    """Hands what waits to one call after the other, in the threads of the pool.

    Who is cancelled meanwhile is not answered; what the call has done stays done.

    Args:
        threads: the pool.
        answer: answers questions in their order; an error among the answers is raised where it was asked, one that it
            raises itself wherever anything was asked.
        together_max: questions of one call.
    """

    def __init__(
        self,
        threads: Threads,
        answer: Callable[[Sequence[Question]], Sequence[Answer | Exception]],
        *,
        together_max: int = TOGETHER_MAX,
    ) -> None:
        self._threads, self._answer, self._max = threads, answer, together_max
        self._waiting: deque[tuple[Question, tuple[Claim, ...], asyncio.Future[Answer]]] = deque()
        self._busy = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, question: Question) -> Answer:
        """The answer; raises what the call raised, and RATE_LIMITED when too many wait."""
        return await self.put(question)

    def put(self, question: Question) -> asyncio.Future[Answer]:
        """The same for who does not wait; raises RATE_LIMITED at once."""
        if len(self._waiting) >= WAITING_MAX:
            raise UnreachableError("RATE_LIMITED", f"{len(self._waiting)} requests wait for the store already")
        told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, current(), told))
        if not self._busy:
            self._begin()
        return told

    def _begin(self) -> None:
        turn = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max))]
        self._busy = True
        try:
            call = self._threads.submit(self._call, turn)
        except UnreachableError as error:
            self._tell(turn, error)
            self._busy = False
            return
        call.add_done_callback(partial(self._ended, turn))

    def _call(
        self, turn: Sequence[tuple[Question, tuple[Claim, ...], asyncio.Future[Answer]]]
    ) -> Sequence[Answer | Exception]:
        with under([claim for _, claims, _ in turn for claim in claims]):
            return self._answer([question for question, _, _ in turn])

    def _ended(
        self,
        turn: Sequence[tuple[Question, tuple[Claim, ...], asyncio.Future[Answer]]],
        call: asyncio.Future[Sequence[Answer | Exception]],
    ) -> None:
        failed: BaseException | None = asyncio.CancelledError() if call.cancelled() else call.exception()
        if isinstance(failed, Exception):
            self._tell(turn, failed)
        elif failed is not None:
            for _, _, told in turn:
                told.cancel()
        else:
            for (_, _, told), answer in zip(turn, call.result(), strict=True):
                if told.done():
                    continue
                if isinstance(answer, Exception):
                    told.set_exception(answer)
                else:
                    told.set_result(answer)
        self._busy = False
        if self._waiting:
            self._begin()

    def _tell(
        self, turn: Sequence[tuple[Question, tuple[Claim, ...], asyncio.Future[Answer]]], error: Exception
    ) -> None:
        for _, _, told in turn:
            if not told.done():
                told.set_exception(error)
