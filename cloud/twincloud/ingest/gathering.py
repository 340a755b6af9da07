"""Questions of many streams that the store answers at once: while it answers some, the next ones gather."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

TOGETHER_MAX = 256
"""Questions of one call: the last of a fleet waits for few calls, the first not for all of them."""


class Gathering(Generic[Question, Answer]):
    """Hands what waits to one call after the other; a refusal among the answers is raised where it was asked.

    Args:
        answer: answers questions in their order; a call that fails as a whole is repeated for each question alone.
        spawn: runs a coroutine as a task of the service.
        name: of that task.
        unheard: told of every answer for which nobody waits any more, so that what it opened can be closed.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], Awaitable[Sequence[Answer | Exception]]],
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
        name: str,
        unheard: Callable[[Question, Answer], None],
    ) -> None:
        self._answer = answer
        self._spawn = spawn
        self._name = name
        self._unheard = unheard
        self._waiting: deque[tuple[Question, asyncio.Future[Answer]]] = deque()
        self._busy = False

    async def ask(self, question: Question) -> Answer:
        """The answer, or raises what the call raised; who is cancelled is not asked for, or its answer is unheard."""
        told: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, told))
        if not self._busy:
            self._busy = True
            self._spawn(self._run(), self._name)
        try:
            return await told
        except asyncio.CancelledError:
            # The answer may have come in the very turn in which the one who asked was cancelled.
            if not told.cancelled() and told.exception() is None:
                self._unheard(question, told.result())
            raise

    async def _run(self) -> None:
        try:
            while self._waiting:
                turn = [self._waiting.popleft() for _ in range(min(len(self._waiting), TOGETHER_MAX))]
                # Of a herd many are gone before their turn comes.
                turn = [(asked, told) for asked, told in turn if not told.done()]
                answers = await self._answers([asked for asked, _ in turn]) if turn else ()
                for (asked, told), answer in zip(turn, answers, strict=True):
                    if told.done():
                        if not isinstance(answer, Exception):
                            self._unheard(asked, answer)
                    elif isinstance(answer, Exception):
                        told.set_exception(answer)
                    else:
                        told.set_result(answer)
        finally:
            self._busy = False

    async def _answers(self, questions: Sequence[Question]) -> Sequence[Answer | Exception]:
        try:
            return await self._answer(questions)
        # One gateway's failure must not be that of all who happened to ask with it.
        except Exception as error:  # noqa: BLE001 - see above; it is raised where the question was asked
            if len(questions) == 1:
                return [error]
        return [(await self._answers([question]))[0] for question in questions]
