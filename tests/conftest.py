"""What all tests share: real services are found or their tests are skipped loudly (and fail under CI=true)."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests.nodes import keep_nodes
from tests.services import find_postgres, postgres_cluster, postgres_url

__all__ = ["postgres_cluster", "postgres_url"]  # fixtures of all tests

# Workers import some hundred modules each and start hundreds of programs: nothing of that is compiled more than once.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A busy machine is no reason to fail: no test asserts a time. Breadth is for the campaign.
settings.register_profile("project", deadline=None, print_blob=True, max_examples=50)
settings.register_profile("campaign", settings.get_profile("project"), max_examples=5_000)

ROOT = Path(__file__).resolve().parent.parent
# A worker takes a whole file at a time: the files that take longest begin first, so that none is left for the end.
# The demo wants the machine for itself and the kernels of the deployment before it, so others stand between them.
LONGEST = (
    "tests/e2e/test_plant.py",
    "tests/model/kernel/test_generate.py",
    "tests/campaign/test_simulation",
    "tests/cloud/console/test_browser.py",
    "tests/e2e/test_demo.py",
    "tests/edge/test_kill_mqtt.py",
    "tests/campaign/",
    "tests/e2e/",
    "tests/edge/spool/",
    "tests/edge/drivers/test_modbus.py",
    "tests/edge/drivers/test_opcua.py",
    "tests/edge/drivers/test_mqtt",
    "tests/edge/uplink/test_spooled.py",
    "tests/sim/test_opcua",
    "tests/edge/install/test_wheelhouse.py",
    "tests/sim/test_simulation.py",
    "tests/edge/northbound/test_opcua.py",
    "tests/sim/test_mqtt",
    "tests/edge/probe/test_probe_opcua.py",
    "tests/edge/test_reload",
    "tests/edge/commands/test_opcua.py",
    "tests/edge/commands/test_guard_machine.py",
    "tests/model/test_estimator.py",
    "tests/model/profile/importers/",
    "tests/model/importers/test_fmu.py",
    "tests/sync/session/",
    "tests/contract/",
    "tests/ctl/test_model_desk.py",
    "tests/cloud/twins/test_state.py",
)


def find_service(name: str) -> str | None:
    """Path of the service's program, also where it is not on PATH."""
    if name == "postgresql":
        return find_postgres()
    candidates = {
        "mosquitto": ["mosquitto", "/usr/sbin/mosquitto"],
        "chromium": ["chromium-headless-shell", "chromium", "chromium-browser"],
        "compiler": ["gcc", "cc", "clang"],
        "haproxy": ["haproxy", "/usr/sbin/haproxy"],
        "promtool": ["promtool"],
    }[name]
    return next((found for c in candidates if (found := shutil.which(c))), None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--campaign", action="store_true", help="search properties with up to 5,000 examples each")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("campaign" if config.getoption("--campaign") else "project")
    # As programs configure it: the library's own choice shows all local variables, seconds of work for each traceback.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    config.stash[_LOGS] = structlog.get_config()
    original = structlog.configure

    def configure(**options: object) -> None:
        original(**options | {"cache_logger_on_first_use": False})

    # A program that is run in a test's process keeps its loggers, and no later test would hear them.
    structlog.configure = configure


@pytest.fixture(autouse=True)
def logs_as_before(request: pytest.FixtureRequest):
    """What a program configured in a test's process ends with the test."""
    yield
    before = request.config.stash[_LOGS]
    if structlog.get_config()["wrapper_class"] is not before["wrapper_class"]:
        structlog.configure(**before)
        root = logging.getLogger()
        root.handlers = [h for h in root.handlers if not isinstance(h.formatter, structlog.stdlib.ProcessorFormatter)]


@pytest.fixture(scope="session")
def service_path():
    """Function: name of a service -> path of its program."""
    return find_service


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    missing: dict[str, int] = {}
    for item in items:
        for mark in item.iter_markers("service"):
            name = mark.args[0]
            if find_service(name) is None:
                missing[name] = missing.get(name, 0) + 1
                if os.environ.get("CI") != "true":
                    item.add_marker(pytest.mark.skip(reason=f"SERVICE MISSING: {name} (run `make services`)"))
    config.stash[_MISSING] = missing
    if missing and os.environ.get("CI") == "true":
        raise pytest.UsageError(f"CI=true and services are missing: {', '.join(sorted(missing))}; run `make services`")


def pytest_collection_finish() -> None:
    keep_nodes()


def _place(item: pytest.Item) -> int:
    """Which file's turn it is; the order inside a file, and among all others, stays."""
    return next((at for at, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))


_MISSING: pytest.StashKey[dict[str, int]] = pytest.StashKey()
_LOGS: pytest.StashKey[dict[str, object]] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for name, count in sorted(config.stash.get(_MISSING, {}).items()):
        terminalreporter.write_sep("!", f"{count} tests skipped: {name} is not installed", red=True, bold=True)
