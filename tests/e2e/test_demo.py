"""The demo as `make demo DEMO_SECONDS=...` starts it: it ends by itself, and its last line is its verdict."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

KEYS = {
    "twins", "gateways", "samples_acquired", "samples_stored", "lost", "duplicates", "declared_missing",
    "first_estimate_s", "freshness_p95_s", "models_swapped", "ticks",
    "ticks_replayed_exactly",
}  # fmt: skip


@pytest.mark.e2e
def test_the_demo_loses_nothing_and_says_so_in_its_last_line(tmp_path):
    state = tmp_path / "demo"
    command = [sys.executable, "-m", "twinsim", "demo", "--seconds", "12", "--port", "0", "--state", str(state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures) == KEYS
    assert (figures["twins"], figures["gateways"]) == (24, 6)
    assert (figures["lost"], figures["duplicates"], figures["declared_missing"]) == (0, 0, 0)
    assert figures["samples_stored"] == figures["samples_acquired"] > 1000
    assert figures["models_swapped"] == 2
    assert figures["first_estimate_s"] > 0
    assert figures["ticks_replayed_exactly"] == figures["ticks"] > 100
    assert "/login?code=" in done.stdout
    assert "twinctl fleet" in done.stdout
