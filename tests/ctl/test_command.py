"""`twinctl twin command` and `twinctl command`, against a real coordinator whose gateway a test speaks for."""

from __future__ import annotations

import json
import threading

import pytest
from fake_coordinator import Server

from tests.cloud.plant import Plant
from tests.ctl.conftest import Shell
from twincloud.downlink.commands import CommandDesk
from twincloud.storage.contract import GatewayKey
from twinsync.command import CommandState, CommandStep

KEY = GatewayKey("acme", "mill", "gw-1")


class Speaker:
    """Stands for the gateway: answers what it is sent as told, at once."""

    def __init__(self, plant: Plant) -> None:
        self.desk = CommandDesk(plant.store, plant.clock)
        self.gateway = plant.gateway("acme", "mill", "gw-1", "T-1")
        self.answer = CommandState("", CommandStep.SUCCEEDED)
        self.sent = []
        self._lock = threading.Lock()

    def __call__(self, key: GatewayKey) -> None:
        with self._lock:
            for one in self.desk.due(key, self.gateway.session):
                self.sent.append(one)
                said = CommandState(
                    one.id, self.answer.step, self.answer.reason, self.answer.detail, self.answer.read_back
                )
                self.desk.settle(key, CommandState(one.id, CommandStep.ACCEPTED))
                self.desk.settle(key, said)


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    plant = Plant(tmp_path_factory.mktemp("command") / "state")
    yield plant
    plant.close()


@pytest.fixture(scope="module")
def speaker(plant):
    made = Speaker(plant)
    made.gateway.send({"T-1-dev.flow": 1.5})
    return made


@pytest.fixture(scope="module")
def url(plant, speaker):
    plant.woken = type("Woken", (), {"append": staticmethod(speaker)})()
    with Server(plant.app()) as url:
        yield url


@pytest.fixture
def ctl(plant, url, tmp_path):
    def shell(role: str) -> Shell:
        made = Shell(tmp_path / role, url, None)
        made.env |= {"HYBRIDTWIN_TOKEN": plant.token(role)}
        return made

    return shell


def test_command_is_issued_awaited_and_told_step_by_step(ctl, speaker):
    speaker.answer = CommandState("", CommandStep.SUCCEEDED, read_back=2.5)
    said = ctl("operator")("twin", "command", "T-1", "flow=2.5", "--why", "start-up", "--deadline", "20s", "-o", "json")
    assert (said.code, said.json["state"], said.json["read_back"]) == (0, "SUCCEEDED", 2.5)
    assert [line.split()[2] for line in said.err.splitlines()] == ["ISSUED", "SENT", "ACCEPTED", "SUCCEEDED"]
    assert (speaker.sent[-1].target, speaker.sent[-1].arguments) == ("T-1-dev.flow", 2.5)
    shown = ctl("viewer")("command", "show", "T-1", said.json["id"])
    assert (shown.code, "start-up" in shown.out) == (0, True)
    assert "SUCCEEDED" in ctl("viewer")("command", "list", "--twin", "T-1").out


def test_steps_stand_once_on_a_terminal_and_whole_in_a_file(ctl, speaker, monkeypatch):
    speaker.answer = CommandState("", CommandStep.SUCCEEDED, read_back=2.5)
    filed = ctl("operator")("twin", "command", "T-1", "flow=2.5")
    assert (filed.err.count("ISSUED by"), filed.out.count("ISSUED by")) == (1, 1)
    monkeypatch.setattr("twinctl.commands.twin_command.on_one_terminal", lambda: True)
    shown = ctl("operator")("twin", "command", "T-1", "flow=2.5")
    assert (shown.err.count("ISSUED by"), shown.out.count("ISSUED by")) == (1, 0)
    assert "read back" in shown.out


@pytest.mark.parametrize(("step", "reason", "code"), [("FAILED", "OUT_OF_RANGE", 1), ("UNKNOWN", "NO_ANSWER", 3)])
def test_end_of_a_command_is_the_exit_code(ctl, speaker, step, reason, code):
    speaker.answer = CommandState("", CommandStep[step], reason, "the valve says no")
    said = ctl("operator")("twin", "command", "T-1", "flow=9", "-o", "json")
    assert (said.code, said.json["state"], said.json["reason"]) == (code, step, reason)
    assert "the valve says no" in said.err
    assert ctl("viewer")("command", "show", "T-1", said.json["id"]).code == code


def test_method_is_called_with_its_arguments(ctl, speaker):
    speaker.answer = CommandState("", CommandStep.SUCCEEDED, read_back=(7, "ok"))
    said = ctl("operator")("twin", "command", "T-1", "T-1-dev.reset", "3", "hard", "true", "--call", "-o", "json")
    assert (said.code, said.json["read_back"]) == (0, [7, "ok"])
    assert speaker.sent[-1].arguments == (3, "hard", True)


def test_command_waits_for_another_person_who_may(ctl, speaker):
    speaker.answer = CommandState("", CommandStep.SUCCEEDED)
    engineer = ctl("engineer")
    made = engineer("twin", "command", "T-1", "flow=3", "--approvals", "1", "--no-wait", "-o", "json")
    assert (made.code, made.json["state"]) == (0, "WAITING_APPROVAL")
    own = engineer("command", "approve", "T-1", made.json["id"])
    assert (own.code, own.err.split()[1]) == (4, "OWN_APPROVAL")
    assert ctl("operator")("command", "approve", "T-1", made.json["id"]).code == 4
    assert made.json["id"] in ctl("viewer")("command", "list", "--state", "WAITING_APPROVAL").out
    assert ctl("engineer")("command", "approve", "T-1", made.json["id"]).code == 0
    done = ctl("viewer")("command", "show", "T-1", made.json["id"], "-o", "json").json
    assert done["state"] == "SUCCEEDED"
    late = ctl("operator")("command", "cancel", "T-1", made.json["id"])
    assert (late.code, late.err.split()[1]) == (1, "COMMAND_CLOSED")


def test_wrong_command_is_refused_before_or_by_the_coordinator(ctl, speaker):
    operator, sent = ctl("operator"), len(speaker.sent)
    for what, reason, code in [
        (("flow",), "REQUEST_INVALID", 2), (("flow=1", "--deadline", "2h"), "REQUEST_INVALID", 2),
        (("flwo=1",), "UNKNOWN_PROPERTY", 1), (("T-1-dev.x=1",), "UNKNOWN_SIGNAL", 2),
        (("flow=fast",), "VALUE_INVALID", 2),
    ]:  # fmt: skip
        said = operator("twin", "command", "T-1", *what)
        assert (said.code, said.err.split()[1]) == (code, reason), said.err
    assert ctl("viewer")("twin", "command", "T-1", "flow=1").code == 4
    dry = operator("twin", "command", "T-1", "flow=4", "--dry-run")
    assert dry.code == 0
    assert "would write mill/T-1 flow = 4 (now 1.5), by gateway gw-1 within 30 s" in dry.err
    assert len(speaker.sent) == sent


def test_gateway_that_is_away_is_exit_code_5(ctl, speaker):
    speaker.gateway.disconnect()
    try:
        said = ctl("operator")("twin", "command", "T-1", "flow=1")
        assert (said.code, said.err.split()[1]) == (5, "GATEWAY_OFFLINE")
    finally:
        speaker.gateway.connect()
    assert json.loads(ctl("viewer")("command", "list", "--state", "FAILED", "-o", "json").out)[0]["reason"] == (
        "GATEWAY_OFFLINE"
    )
