"""The local page: status, metrics, health and the page for people, from one document."""

from __future__ import annotations

import http.client
import io
import json
import socket

import pytest
from click.testing import CliRunner
from rich.console import Console

from twinedge.cli import cli
from twinedge.health.client import render
from twinedge.health.liveness import Liveness
from twinedge.health.server import StatusServer
from twinedge.health.top import Screen, rate
from twinmodel.errors import REASONS, ConflictError

STATUS = {
    "gateway": "north/n1",
    "version": "1",
    "boot": "00",
    "degraded": [],
    "devices": [
        {"device": "T-<1>", "connected": True, "samples": 7, "errors": 1, "last_error": "x", "missed": 0, "age_s": 0.5},
        {
            "device": "T-2",
            "connected": False,
            "samples": 0,
            "errors": 9,
            "last_error": "DEVICE_UNREACHABLE",
            "missed": 2,
            "age_s": None,
        },
    ],
    "twins": [
        {
            "twin": "tank-1",
            "model": "two-tanks@1.0.0",
            "tier": "jit",
            "steps": 5,
            "late": 0,
            "settling": False,
            "swaps": 1,
            "drifting": True,
            "isolation": "sensor:level2",
            "evidence": "bias of +0.1 <m>",
            "rejected": 4,
            "substituted_ticks": 5,
            "left_regime": ["box:pump"],
            "fallbacks": 0,
        }
    ],
    "clock": "SYNCED",
    "configuration": {"number": 3, "origin": "directive", "digest": "ab" * 32},
    "alarms": {
        "active": {"high": 2},
        "states": {"UNACK": 2},
        "chattering": 1,
        "raised": 5,
        "records": 9,
        "alarms": 2,
        "list": [{"priority": "high", "alarm": "tank-high", "state": "UNACK", "text": "level above 9.5 <m>"}],
    },
    "northbound": {
        "opcua": {
            "serving": True,
            "values": 9,
            "values_per_s": 4.5,
            "reason": "",
            "error": "",
            "listen": "10.0.0.5:4840",
            "clients": 2,
            "thumbprint": "ab12",
        }
    },
    "commands": {"allowed": ["press.setpoint"], "open": [], "recent": [], "results": {}, "ledger": "ok"},
    "spool": {
        "bytes": 4096,
        "backlog_bytes": 10,
        "backlog_samples": 3,
        "backlog_age_s": 1.5,
        "hours_until_full": 2.5,
        "commits": 4,
        "errors": 0,
        "trouble": "",
    },
    "lanes": {"samples": 2, "pushed_out": 0},
    "uplink": {
        "connected": True,
        "items_acked": 4,
        "reconnects": 0,
        "last_error": "",
        "certificate_until_ns": 5 * 10**9,
    },
}


@pytest.fixture
def server():
    made = StatusServer("127.0.0.1", 0)
    yield made
    made.close()


def get(server: StatusServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_before_the_first_document_it_says_starting(server):
    assert get(server, "/status") == (503, "starting\n")


def test_status_is_the_document(server):
    server.publish(STATUS)
    code, body = get(server, "/status")
    assert code == 200
    assert json.loads(body) == STATUS


def test_metrics_name_devices_and_twins(server):
    server.publish(STATUS)
    body = get(server, "/metrics")[1]
    assert 'twinedge_device_connected{device="T-2"} 0.0' in body
    assert 'twinedge_model_drifting{twin="tank-1"} 1.0' in body
    assert "twinedge_spool_backlog_samples 3.0" in body
    assert "twinedge_spool_full_in_seconds 9000.0" in body
    assert "twinedge_uplink_acknowledged_items_total 4.0" in body
    assert "twinedge_certificate_expiry_seconds 5.0" in body
    assert "twinedge_process_resident_memory_bytes" in body


def test_the_page_escapes_names(server):
    server.publish(STATUS)
    body = get(server, "/")[1]
    assert "T-&lt;1&gt;" in body
    assert "DRIFTING" in body


def test_the_page_comes_anew_by_itself_only_where_that_was_asked_for(server):
    server.publish(STATUS)
    still, live = get(server, "/")[1], get(server, "/?live=")[1]
    assert "http-equiv=refresh" not in still
    assert "<button name=live>" in still
    assert "http-equiv=refresh" in live
    assert "hold still" in live


def test_a_degraded_agent_is_not_healthy_and_says_why(server):
    server.publish({**STATUS, "degraded": ["STORE_FULL"]})
    assert get(server, "/healthz") == (503, "STORE_FULL\n")
    server.publish(STATUS)
    assert get(server, "/healthz") == (200, "ok\n")


def test_an_unknown_path_names_the_known_ones(server):
    server.publish(STATUS)
    code, body = get(server, "/nothing")
    assert code == 404
    assert "/metrics" in body


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConflictError) as told:
            StatusServer("127.0.0.1", taken.getsockname()[1])
    assert told.value.reason == "PORT_IN_USE"


def test_the_status_for_a_terminal_is_aligned():
    text = render(STATUS)
    assert "T-2" in text
    assert "AWAY" in text
    assert "two-tanks@1.0.0" in text


def test_the_status_command_ends_with_3_while_degraded_and_with_5_when_nobody_answers(server, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(
        "site: plant-a\ndevices: {m: {modbus: 'tcp://127.0.0.1:1', unit_id: 1, profile: carlogavazzi/em24-ethernet}}\n"
        f"status: {{port: {server.port}}}\n"
    )
    words = ["status", "--config", str(site), "--state", str(tmp_path)]
    server.publish(STATUS)
    assert CliRunner().invoke(cli, words).exit_code == 0
    server.publish({**STATUS, "degraded": ["STORE_FULL"]})
    assert CliRunner().invoke(cli, words).exit_code == 3
    server.close()
    silent = CliRunner().invoke(cli, words).exception
    assert (silent.reason, int(REASONS[silent.reason].exit)) == ("AGENT_NOT_RUNNING", 5)
    assert "journalctl" in silent.hint


def test_shell_and_page_name_alarms_what_is_served_and_the_configuration_in_force(server):
    text = render(STATUS)
    server.publish(STATUS)
    _, page = get(server, "/")
    for told in (
        "2 active, 2 to be acknowledged",
        "tank-high",
        "4.5 values/s",
        "10.0.0.5:4840, 2 clients, certificate ab12",
        "number 3 from directive",
        "1 targets",
    ):
        assert told in text
        assert told in page
    assert "level above 9.5 &lt;m&gt;" in page


def test_top_shows_rates_from_one_status_to_the_next_and_those_that_are_away_first():
    console = Console(width=160, record=True, file=io.StringIO())
    screen = Screen()
    screen.draw(STATUS, 10**9)
    devices = [STATUS["devices"][0] | {"samples": 27}, STATUS["devices"][1]]
    console.print(screen.draw(STATUS | {"devices": devices}, 3 * 10**9))
    shown = console.export_text()
    assert shown.index("T-2") < shown.index("T-<1>")
    assert "10.0" in shown
    assert "DRIFTING sensor:level2" in shown
    assert "tank-high" in shown


def test_a_counter_that_began_anew_has_no_rate():
    assert rate({"samples": 3}, {"samples": 9}, "samples", 1.0) == "-"
    assert rate({"samples": 3}, None, "samples", 1.0) == "-"


def test_a_loop_that_stands_still_is_named_and_forgotten_once_it_goes_on():
    rounds = {"ticks": 0, "commits": 0}
    liveness = Liveness({name: lambda name=name: rounds[name] for name in rounds}, 0, within_ns=10)
    rounds["ticks"] += 1
    assert liveness.stuck(5) == []
    rounds["ticks"] += 1
    assert liveness.stuck(11) == ["commits"]
    assert liveness.stuck(30) == ["ticks", "commits"]
    rounds["commits"] += 1
    rounds["ticks"] += 1
    assert liveness.stuck(31) == []


def test_a_long_name_of_a_device_does_not_run_into_its_state_and_a_clock_is_told_in_words():
    devices = [{**STATUS["devices"][0], "device": "centrifugal-pump-12"}]
    text = render({**STATUS, "devices": devices, "twins": [], "clock": "FREE"})
    assert "centrifugal-pump-12  connected " in text
    assert "FREE: nobody keeps it right" in text
    assert "TWIN" not in text
