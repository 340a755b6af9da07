"""Questions that gather: few calls for many askers, and everyone gets the own answer or the own refusal."""

from __future__ import annotations

import asyncio

import pytest

from twincloud.ingest import gathering
from twincloud.ingest.gathering import Gathering
from twinmodel.errors import ConflictError, StorageError


class Store:
    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.asked, self.open = asyncio.Event(), asyncio.Event()

    async def answer(self, questions):
        self.calls.append(list(questions))
        self.asked.set()
        await self.open.wait()
        if 13 in questions:
            raise ZeroDivisionError("a question nobody foresaw")
        return [ConflictError("FENCED", str(n)) if n == 7 else n * n for n in questions]


async def asked(store: Store, questions) -> list[object]:
    async with asyncio.TaskGroup() as tasks:
        gathered = Gathering(store.answer, lambda work, name: tasks.create_task(work, name=name), "test", _nobody)
        askers = [tasks.create_task(_caught(gathered, n)) for n in questions]
        await store.asked.wait()
        store.open.set()
        return [await asker for asker in askers]


def _nobody(_question, _answer):
    raise AssertionError("everybody waited")


async def _caught(gathered, question):
    try:
        return await gathered.ask(question)
    except Exception as error:  # noqa: BLE001 - the test looks at whatever it is
        return error


async def test_what_waits_while_a_call_runs_shares_the_next_one():
    store = Store()
    assert await asked(store, range(5)) == [0, 1, 4, 9, 16]
    assert len(store.calls) <= 2


async def test_one_call_has_a_bound(monkeypatch):
    monkeypatch.setattr(gathering, "TOGETHER_MAX", 3)
    store = Store()
    assert await asked(store, range(6)) == [n * n for n in range(6)]
    assert max(map(len, store.calls)) <= 3


async def test_a_refusal_is_raised_where_it_was_asked_and_nowhere_else():
    answers = await asked(Store(), [6, 7, 8])
    assert (answers[0], answers[2]) == (36, 64)
    assert answers[1].reason == "FENCED"


async def test_a_call_that_trips_a_bug_is_repeated_for_each_alone():
    answers = await asked(Store(), [1, 13, 2])
    assert (answers[0], answers[2]) == (1, 4)
    assert isinstance(answers[1], ZeroDivisionError)


async def test_a_store_that_refuses_refuses_all_who_ask():
    async def refuse(_questions):
        raise StorageError("STORE_FULL", "no room")

    async with asyncio.TaskGroup() as tasks:
        gathered = Gathering(refuse, lambda work, name: tasks.create_task(work, name=name), "test", _nobody)
        for _ in range(2):
            with pytest.raises(StorageError):
                await gathered.ask(1)


async def test_who_no_longer_waits_is_not_asked_for_or_its_answer_is_told_as_unheard(monkeypatch):
    monkeypatch.setattr(gathering, "TOGETHER_MAX", 2)
    store, unheard = Store(), []
    async with asyncio.TaskGroup() as tasks:
        gathered = Gathering(
            store.answer,
            lambda work, name: tasks.create_task(work, name=name),
            "test",
            lambda *told: unheard.append(told),
        )
        gone, stays, early = (tasks.create_task(gathered.ask(n)) for n in (1, 2, 3))
        await store.asked.wait()
        gone.cancel()
        early.cancel()
        store.open.set()
        assert await stays == 4
    assert unheard == [(1, 1)]
    assert store.calls == [[1, 2]]


async def test_an_answer_that_meets_the_cancellation_of_who_asked_is_unheard():
    unheard = []

    async def answer(questions):
        return questions

    async with asyncio.TaskGroup() as tasks:

        def spawn(work, name):
            # Called before the one who asks waits, so this comes first when the answer is there.
            ((_, told),) = gathered._waiting
            told.add_done_callback(lambda _: asker.cancel())
            tasks.create_task(work, name=name)

        gathered = Gathering(answer, spawn, "test", lambda *told: unheard.append(told))
        asker = tasks.create_task(gathered.ask(5))
    assert asker.cancelled()
    assert unheard == [(5, 5)]
