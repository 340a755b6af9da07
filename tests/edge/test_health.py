"""The local page: status, metrics, health and the page for people, from one document."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from twinedge.health.client import render
from twinedge.health.server import StatusServer
from twinmodel.errors import ConflictError

STATUS = {
    "gateway": "north/n1",
    "version": "1",
    "boot": "00",
    "degraded": [],
    "devices": [
        {"device": "T-<1>", "connected": True, "samples": 7, "errors": 1, "last_error": "x"},
        {"device": "T-2", "connected": False, "samples": 0, "errors": 9, "last_error": "DEVICE_UNREACHABLE"},
    ],
    "twins": [
        {
            "twin": "tank-1",
            "model": "two-tanks@1.0.0",
            "tier": "jit",
            "steps": 5,
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
    "alarms": {"active": {"high": 2}, "states": {"UNACK": 2}, "chattering": 1, "raised": 5, "records": 9},
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
