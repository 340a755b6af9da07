"""Resident memory of the real processes after they have settled; the bound is generous, the figures are recorded."""

from __future__ import annotations

import time

import pytest

from twinsim.demo.processes import rss_bytes

pytestmark = [pytest.mark.e2e, pytest.mark.service("mosquitto"), pytest.mark.timeout(300)]

SETTLE_S = 20.0
BOUND_MIB = 300


def test_agents_and_coordinator_stay_within_their_memory(plant, record_property):
    programs = {
        "agent_one_protocol": plant.gateways["single"].program,
        "agent_three_protocols": plant.gateways["mixed"].program,
        "coordinator": plant.coordinator,
    }
    plant.until(lambda: plant.twin("tank-1")["model"]["running"], "models run")
    time.sleep(max(0.0, SETTLE_S - (time.monotonic() - plant.up_since)))
    figures = {name: rss_bytes(program.pid) / 2**20 for name, program in programs.items()}
    for name, mebibytes in figures.items():
        record_property(f"rss_mib_{name}", round(mebibytes, 1))
    assert all(0 < mebibytes < BOUND_MIB for mebibytes in figures.values()), figures
