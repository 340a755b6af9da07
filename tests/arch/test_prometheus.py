"""What Prometheus reads: clean for its own tool, documented, and the alerts name metrics there are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from tests.edge.test_health import STATUS
from twincloud.api.metrics import Metrics
from twincloud.storage.contract import StoreStatus
from twinedge.health.status import registry

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/hybridtwin.rules.yml"
_NAME = re.compile(r"\b(?:twinedge|twincloud)_[a-z0-9_]+")


def agent() -> bytes:
    return generate_latest(registry(lambda: STATUS))


def coordinator() -> bytes:
    metrics = Metrics()
    metrics.request("GET", "/api/v1/twins", 200, 0.01)
    metrics.enrolments.labels("ISSUED").inc()
    return metrics.text(StoreStatus(**dict.fromkeys(StoreStatus.__dataclass_fields__, 1)))


@pytest.mark.service("promtool")
@pytest.mark.parametrize("told", [agent, coordinator])
def test_metrics_are_clean_for_promtool(told, service_path):
    checked = subprocess.run(
        [service_path("promtool"), "check", "metrics"], input=told(), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr.decode()) == (0, "")


@pytest.mark.service("promtool")
def test_the_alerts_that_ship_are_rules_for_promtool(service_path):
    checked = subprocess.run([service_path("promtool"), "check", "rules", RULES], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr.decode() + checked.stdout.decode()


def test_alerts_name_metrics_that_are_documented():
    known = set(_NAME.findall((ROOT / "docs/metrics.md").read_text()))
    used = {name for line in RULES.read_text().splitlines() if "expr:" in line for name in _NAME.findall(line)}
    assert used
    assert used - known == set()
