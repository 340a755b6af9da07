"""The timeline of a scenario over a plant that is only played: what is done when, what is judged how."""

import threading

from twinmodel.clock import SECOND_NS, ManualClock
from twinmodel.errors import MissingError, UnreachableError
from twinsim.deployment.play import Play
from twinsim.deployment.schema import Deployment
from twinsim.served import Verdict

CLEAN = Verdict(100, 100, 0, 0, 0, 0)
BASE = {"modbus": {"devices": 1}, "gateways": {"north/n1": {"devices": ["T-1"], "link": True}}}


class Plant:
    """Stands for processes: remembers what is done to it, and answers by a table."""

    def __init__(self, plan, answers=None, verdict=CLEAN):
        self.plan = Deployment.model_validate(BASE | plan)
        self.clock = ManualClock()
        self.done = []
        self.answers = answers or {}
        self.verdict = verdict
        self.operator = self
        self._lock = threading.Lock()

    def __getattr__(self, verb):
        if verb not in {"kill", "stop", "begin", "edit"}:
            raise AttributeError(verb)
        return lambda *target: self._note(verb, *target)

    def _note(self, *what):
        with self._lock:
            self.done.append((*what,))

    def fault(self, order):
        if order["target"] == "T-1" and order.get("kind") == "reboot":
            raise MissingError("UNKNOWN_DEVICE", "no such device")
        self._note("fault", order["target"], self.clock.boot_ns() // SECOND_NS)

    def call(self, method, path, *, body=None, query=None):
        if method == "PUT":
            raise MissingError("UNKNOWN_MODEL", "no such model")
        if method == "POST":
            self._note(path, body)
            return {"id": "c1"}
        answer = self.answers[path]
        return answer(self.clock.boot_ns() / SECOND_NS) if callable(answer) else answer

    def pages(self, path):
        return self.answers[path]

    def full_name(self, name):
        return f"north/{name}"

    def check_alive(self):
        pass

    def close(self):
        self._note("close")
        return self.verdict

    def play(self, seconds=10):
        def wait(turn_s):
            self.clock.advance(round(turn_s * SECOND_NS))

        return Play(self, print, wait).run(seconds * SECOND_NS)


def test_everything_is_done_at_its_time_and_counted_at_the_end():
    plan = {
        "faults": [{"at": "1s", "target": "n1", "fault": "cut", "repeat": {"every": "2s", "times": 3}}],
        "steps": [{"at": "2s", "do": "kill", "target": "n1"}, {"at": "4s", "do": "restart", "target": "coordinator"}],
    }
    plant = Plant(plan)
    outcome = plant.play()
    assert outcome.passed
    assert [entry for entry in plant.done if entry[0] == "fault"] == [("fault", "n1", t) for t in (1, 3, 5)]
    rest = [entry for entry in plant.done if entry[0] != "fault"]
    assert rest == [("kill", "n1"), ("stop", "coordinator"), ("begin", "coordinator"), ("close",)]
    assert outcome.document()["samples"]["samples_acquired"] == 100


def test_an_expectation_is_asked_until_it_is_met_or_its_time_is_over():
    path = "sites/north/gateways/n1"
    plan = {
        "expect": [
            {"at": "1s", "within": "4s", "gateway": "n1", "is": {"connected": True}},
            {"at": "6s", "within": "1s", "gateway": "n1", "is": {"backlog_samples": {"max": 0}}},
            {"within": "1s", "gateway": "n1", "is": {"connected": True}},
        ]
    }
    plant = Plant(plan, {path: lambda now_s: {"connected": now_s >= 3, "backlog_samples": 5}})
    outcome = plant.play()
    first, second, last = outcome.expect
    assert first.met
    assert 2 <= first.after_s <= 2.5
    assert (second.met, second.found, second.after_s) == (False, {"backlog_samples": 5}, None)
    assert last.met
    assert not outcome.passed


def test_an_expectation_waits_for_the_steps_before_it():
    begun, release = threading.Event(), threading.Event()
    plan = {
        "lasts": "60s",
        "steps": [{"at": "1s", "do": "restart", "target": "coordinator"}],
        "expect": [{"at": "1s", "within": "2s", "gateway": "n1", "is": {"connected": True}}],
    }
    plant = Plant(plan, {"sites/north/gateways/n1": lambda _now_s: {"connected": release.is_set()}})
    stop = plant.stop

    def slow(target):
        stop(target)
        begun.set()
        assert release.wait(30)

    plant.stop = slow

    def wait(turn_s):
        plant.clock.advance(round(turn_s * SECOND_NS))
        if plant.clock.boot_ns() >= 20 * SECOND_NS and not release.is_set():
            assert begun.wait(30)
            release.set()

    outcome = Play(plant, print, wait).run(25 * SECOND_NS)
    assert outcome.passed


def test_what_comes_after_a_run_that_was_cut_short_is_left_out_and_said(capsys):
    plan = {
        "faults": [{"at": "9s", "target": "n1", "fault": "cut"}],
        "expect": [{"at": "9s", "gateway": "n1", "is": {"connected": True}}],
    }
    outcome = Plant(plan).play(4)
    assert (outcome.passed, outcome.steps, outcome.expect) == (True, [], [])
    assert "2 faults, steps and expectations of later were left out" in capsys.readouterr().out


def test_who_says_nothing_meets_nothing():
    def silent(_now_s):
        raise UnreachableError("COORDINATOR_UNREACHABLE", "nobody answers")

    plan = {"expect": [{"at": "1s", "within": "1s", "fleet": True, "is": {"twins": 0}}]}
    outcome = Plant(plan, {"fleet": silent}).play(4)
    assert not outcome.passed
    assert "COORDINATOR_UNREACHABLE" in outcome.expect[0].said


def test_what_is_refused_fails_the_run_unless_it_is_wanted():
    assign = {"at": "1s", "do": "assign", "target": "north/tank-1", "model": "x@1"}
    assert not Plant({"steps": [assign]}).play(3).passed
    assert Plant({"steps": [assign | {"refused": "UNKNOWN_MODEL"}]}).play(3).passed
    assert not Plant({"steps": [assign | {"refused": "MODEL_UNFIT"}]}).play(3).passed
    edit = {"at": "1s", "do": "edit", "target": "n1", "set": {"site": "x"}, "refused": "VALUE_INVALID"}
    taken = Plant({"steps": [edit]}).play(3)
    assert "had to refuse" in taken.steps[0].said
    reboot = {"faults": [{"at": "1s", "target": "T-1", "fault": "reboot"}]}
    assert not Plant(reboot).play(3).passed


def test_the_count_must_be_as_wanted():
    def passed(verdict, samples):
        return Plant({"samples": samples}, verdict=verdict).play(1).passed

    assert not passed(Verdict(100, 99, 1, 0, 0, 0), {})
    assert passed(Verdict(100, 99, 1, 0, 0, 0), {"lost": 1})
    assert not passed(Verdict(100, 100, 0, 0, 0, 1), {})
    assert passed(Verdict(100, 90, 0, 0, 10, 0), {})
    assert not passed(Verdict(100, 90, 0, 0, 10, 0), {"declared_missing": 9})
    assert not passed(Verdict(0, 0, 0, 0, 0, 0), {})


def test_commands_and_alarms_go_by_rest_and_are_looked_at_by_their_names():
    plan = {
        "steps": [
            {"at": "1s", "do": "command", "target": "north/press/speed", "value": 5, "name": "faster"},
            {"at": "2s", "do": "alarm", "target": "n1/high", "verb": "ack", "body": {"comment": "seen"}},
            {"at": "3s", "do": "alarm", "target": "n1/low", "verb": "ack", "refused": "NOT_FOUND"},
        ],
        "expect": [
            {"at": "1s", "command": "faster", "is": {"state": "SUCCEEDED"}},
            {"at": "2s", "alarm": "n1/high", "is": {"state": "ACKED"}},
            {"at": "0s", "within": "1s", "alarm": "n1/low", "is": {"state": "ACKED"}},
        ],
    }
    alarm = {"alarm": "high", "id": "a1", "occurrence": 7, "state": "ACKED"}
    path = "sites/north/twins/press/commands"
    answers = {"alarms?site=north&gateway=n1": [alarm], f"{path}/c1": {"state": "SUCCEEDED"}}
    plant = Plant(plan, answers)
    outcome = plant.play(5)
    assert [step.ok for step in outcome.steps] == [True, True, True]
    sent = [entry for entry in plant.done if len(entry) == 2 and isinstance(entry[1], dict)]
    assert sent == [(path, {"property": "speed", "value": 5}), ("alarms/a1:ack", {"comment": "seen", "occurrence": 7})]
    assert [one.met for one in outcome.expect] == [False, True, True]
    assert "no alarm 'low'" in outcome.expect[0].said
