"""What a configuration will cost: requests as the driver makes them, bytes as the codec packs them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from twinedge.cli import cli
from twinedge.config.load import load_site
from twinedge.install.plan import plan_of

GIB = 2**30
PROFILE = """\
profile: acme/meter
firmware: ">=1"
protocol: modbus
base: 0
limits: {max_read: 100, delay: 10ms}
defaults: {every: 1s}
points:
  p1: {at: holding 0, as: float32, unit: kW, range: [0, 100]}
  p2: {at: holding 2, as: float32, unit: kW, range: [0, 100]}
  far: {at: holding 900, as: int16, unit: A, every: 10s}
"""
SITE = """\
site: plant-a
profiles: profiles
devices:
  meter: {modbus: "tcp://10.0.0.{1..4}:502", profile: acme/meter}
spool: {disk: 64MiB}
"""


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "profiles/acme/meter"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(PROFILE)

    def written(text: str = SITE):
        (tmp_path / "site.yaml").write_text(text)
        return tmp_path / "site.yaml"

    return written


def plan(path, **given):
    return plan_of(load_site(path), **{"flash_bytes": 8 * GIB, "flash_cycles": 1000, **given})


def test_requests_and_points_are_those_the_driver_makes(site):
    found = plan(site())
    assert [(d.device, d.points, d.samples_per_s, d.requests_per_s) for d in found.devices][:2] == [
        ("meter-1", 3, 2.1, pytest.approx(1.1)),
        ("meter-2", 3, 2.1, pytest.approx(1.1)),
    ]
    assert found.samples_per_s == pytest.approx(8.4)
    assert found.requests_per_s == pytest.approx(4.4)
    assert found.lines["tcp://10.0.0.1:502"] == pytest.approx(0.011)


def test_bytes_hours_and_years_hang_together(site):
    found, (lane,) = plan(site()), plan(site()).lanes
    assert lane.stream == "telemetry"
    assert lane.window_s == 10
    assert 0.5 < lane.bytes_per_sample < 20
    assert lane.bytes_per_day == pytest.approx(lane.bytes_per_sample * 8.4 * 86_400, rel=0.01)
    assert found.hours_alone == pytest.approx(found.spool_bytes * 15 / 16 / lane.bytes_per_day * 24, rel=0.02)
    assert plan(site(), flash_cycles=2000).flash_years == pytest.approx(2 * found.flash_years)
    assert found.warnings == ()


def test_a_serial_line_that_is_asked_too_much_is_named(site):
    text = SITE.replace('"tcp://10.0.0.{1..4}:502"', '"rtu:///dev/ttyUSB0?baud=1200"').replace(
        "profile: acme/meter", 'unit_id: "1..9", profile: acme/meter'
    )
    (warning,) = plan(site(text)).warnings
    assert "/dev/ttyUSB0 is busy" in warning


def test_a_spool_that_covers_less_than_a_day_is_named(site):
    (warning,) = plan(site(SITE.replace("64MiB", "1MiB"))).warnings
    assert "more disk" in warning


def test_the_command_prints_a_table_or_json_and_ends_with_3_when_something_is_to_be_looked_at(site):
    path = str(site())
    shown = CliRunner().invoke(cli, ["plan", "--config", path])
    assert shown.exit_code == 0
    assert "meter-1 .. meter-4 (4, each)" in shown.output
    told = CliRunner().invoke(cli, ["plan", "--config", path, "-o", "json"])
    assert json.loads(told.output)["samples_per_s"] == pytest.approx(8.4)
    site(SITE.replace("64MiB", "1MiB"))
    assert CliRunner().invoke(cli, ["plan", "--config", path]).exit_code == 3
    assert CliRunner().invoke(cli, ["plan", "--config", path, "--flash", "much"]).exit_code == 2
