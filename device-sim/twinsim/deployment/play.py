"""Plays a scenario over a plant that runs: faults, steps and expectations at their times, then the count, the verdict.

Faults begin on time. Steps are done one after the other beside them, as a restart takes seconds. An expectation is
asked again and again from its time on, or from when the steps before it are done, until it is met or its time is over.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from twinmodel.clock import SECOND_NS
from twinmodel.errors import TwinError
from twinsim.deployment.acts import Actor, look
from twinsim.deployment.lookup import ABSENT, fits, look_up
from twinsim.deployment.running import Running
from twinsim.deployment.schema import Expectation, SamplesPlan, Step
from twinsim.scenario import FaultPlan, schedule
from twinsim.script import line_of, order_of
from twinsim.served import Verdict

TURN_S = 0.05
ASK_S = 0.25

Say = Callable[[str], object]


@dataclass(slots=True)
class Done:
    """A fault or a step, and how it went.

    Attributes:
        at_s: when it was to be.
        what: in words.
        ok: whether it could be done.
        took_s: how long it took.
        said: why not, or what is to be said of it.
    """

    at_s: float
    what: str
    ok: bool = True
    took_s: float = 0.0
    said: str = ""


@dataclass(slots=True)
class Expected:
    """An expectation, and what was found.

    Attributes:
        at_s: from when it was asked for; None is the end.
        what: the subject.
        met: whether all of it was true at once.
        after_s: how long that took.
        wanted: path -> what it should be.
        found: path -> what it was when asked last.
        said: why nothing was found.
    """

    at_s: float | None
    what: str
    wanted: dict[str, Any]
    met: bool = False
    after_s: float | None = None
    found: dict[str, Any] = field(default_factory=dict)
    said: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        passed: whether every step was done, every expectation met, and the count as wanted.
        steps, expect: in the order they came.
        samples: the count; see `twinsim.served.Verdict`.
        samples_fit: whether it is as wanted.
        lasted_s: from when everything was up to the count.
    """

    passed: bool
    steps: list[Done]
    expect: list[Expected]
    samples: dict[str, Any]
    samples_fit: bool
    lasted_s: float

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Play:
    """One run of the timeline of a scenario."""

    def __init__(self, plant: Running, say: Say, wait: Callable[[float], object] | None = None) -> None:
        """Prepares it; `wait` waits some seconds, or turns the clock of the plant."""
        self._plant, self._say = plant, say
        self._actor = Actor(plant)
        self._wait = threading.Event().wait if wait is None else wait
        self._begun_ns = 0
        self._steps: list[Done] = []
        self._expect: list[Expected] = []
        self._doing: list[Future[None]] = []
        self._open: list[tuple[Expectation, Expected, int, list[int]]] = []

    def run(self, lasts_ns: int) -> Outcome:
        """Plays for `lasts_ns`, counts, and says what came of it.

        Raises:
            TwinError: STATE_INVALID when an agent ended that nobody ended.
        """
        plan = self._plant.plan
        self._begun_ns = self._plant.clock.boot_ns()
        faults = deque(schedule(plan.faults))
        steps = deque(sorted(plan.steps, key=lambda s: s.at))
        expect = deque(sorted((e for e in plan.expect if e.at is not None), key=lambda e: e.at or 0))
        with ThreadPoolExecutor(1) as worker:
            while self._now_ns() < lasts_ns:
                self._turn(worker, faults, steps, expect)
            for future in self._doing:
                future.result()
            while expect and (expect[0].at or 0) <= lasts_ns:  # they waited for a step
                self._expect_from(expect.popleft())
            for one in (e for e in plan.expect if e.at is None):
                self._expect_from(one)
            while self._open:
                self._ask()
                self._wait(TURN_S)
        if left := len(faults) + len(steps) + len(expect):
            self._say(f"{left} faults, steps and expectations of later were left out")
        lasted_s = self._now_ns() / SECOND_NS
        self._say(f"{lasted_s:8.1f} s  letting everything drain, then counting")
        verdict = self._plant.close()
        return self._outcome(verdict, plan.samples, lasted_s)

    def _now_ns(self) -> int:
        return self._plant.clock.boot_ns() - self._begun_ns

    def _turn(
        self,
        worker: ThreadPoolExecutor,
        faults: deque[tuple[int, FaultPlan]],
        steps: deque[Step],
        expect: deque[Expectation],
    ) -> None:
        now_ns = self._now_ns()
        while faults and faults[0][0] <= now_ns:
            self._fault(*faults.popleft())
        while steps and steps[0].at <= now_ns:
            self._doing.append(worker.submit(self._step, steps.popleft()))
        while expect and (expect[0].at or 0) <= now_ns and self._are_done(expect[0].at or 0):
            self._expect_from(expect.popleft())
        for future in self._doing:
            if future.done():
                future.result()
        self._ask()
        self._plant.check_alive()
        self._wait(TURN_S)

    def _are_done(self, at_ns: int) -> bool:
        """Whether no step of a time up to this one is still being done: what it leads to cannot be there yet."""
        begun = sum(step.at <= at_ns for step in self._plant.plan.steps)
        return all(future.done() for future in self._doing[:begun])

    def _fault(self, at_ns: int, plan: FaultPlan) -> None:
        done = Done(at_ns / SECOND_NS, line_of(at_ns, plan).partition(" s  ")[2])
        try:
            self._plant.fault(order_of(plan))
        except TwinError as refused:
            done.ok, done.said = False, f"{refused.reason}: {refused.message}"
        self._told(done)

    def _step(self, step: Step) -> None:
        begun_ns = self._now_ns()
        done = Done(step.at / SECOND_NS, f"{step.do} {step.target}")
        try:
            done.said = self._actor.do(step)
        except TwinError as refused:
            done.ok, done.said = False, f"{refused.reason}: {refused.message}"
        done.took_s = round((self._now_ns() - begun_ns) / SECOND_NS, 3)
        self._told(done)

    def _told(self, done: Done) -> None:
        self._steps.append(done)
        more = f" ({done.said})" if done.said else ""
        self._say(f"{done.at_s:8.1f} s  {'' if done.ok else 'NOT DONE: '}{done.what}{more}")

    def _expect_from(self, wanted: Expectation) -> None:
        ((subject, name),) = wanted.subjects.items()
        at_s = None if wanted.at is None else wanted.at / SECOND_NS
        made = Expected(at_s, subject if subject == "fleet" else f"{subject} {name}", dict(wanted.is_))
        self._expect.append(made)
        since_ns = self._now_ns()
        self._open.append((wanted, made, since_ns, [since_ns]))

    def _ask(self) -> None:
        """Asks for every open expectation whose turn it is, and closes those that are met or out of time."""
        for entry in tuple(self._open):
            wanted, made, since_ns, due_ns = entry
            now_ns = self._now_ns()
            if now_ns < due_ns[0]:
                continue
            self._look(wanted, made)
            if made.met or self._now_ns() - since_ns >= wanted.within:
                self._open.remove(entry)
                made.after_s = round((self._now_ns() - since_ns) / SECOND_NS, 3) if made.met else None
                self._say(f"{self._now_ns() / SECOND_NS:8.1f} s  {_words(made)}")
            due_ns[0] = self._now_ns() + round(ASK_S * SECOND_NS)

    def _look(self, wanted: Expectation, made: Expected) -> None:
        ((subject, name),) = wanted.subjects.items()
        try:
            document = look(self._plant, self._actor, subject, name)
        except TwinError as silent:
            made.said = f"{silent.reason}: {silent.message}"
            return
        values = {path: look_up(document, path) for path in wanted.is_}
        made.said = ""
        made.met = all(fits(values[path], want) for path, want in wanted.is_.items())
        made.found = {path: None if value is ABSENT else value for path, value in values.items()}

    def _outcome(self, verdict: Verdict, wanted: SamplesPlan, lasted_s: float) -> Outcome:
        counts = asdict(verdict)
        fit = verdict.samples_acquired >= wanted.acquired_min and all(
            limit is None or counts[name] <= limit
            for name, limit in wanted.model_dump(exclude={"acquired_min"}).items()
        )
        passed = fit and all(d.ok for d in self._steps) and all(e.met for e in self._expect)
        return Outcome(passed, self._steps, self._expect, counts, fit, round(lasted_s, 3))


def _words(made: Expected) -> str:
    if made.met:
        return f"as expected: {made.what}: {_pairs(made.found)}"
    return f"NOT AS EXPECTED: {made.what}: {made.said or _pairs(made.found)}; wanted {_pairs(made.wanted)}"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{path}={value}" for path, value in values.items())
