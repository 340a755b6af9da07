"""The console beside a small coordinator whose values move."""

import importlib.util
import sys
from pathlib import Path

import pytest

from twincloud.api.console import console_router


def load_fake():
    name = "fake_coordinator"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "fake_coordinator.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


fake_coordinator = load_fake()


@pytest.fixture
def fake():
    return fake_coordinator.FakeCoordinator()


@pytest.fixture
def app(fake):
    app = fake_coordinator.make_app(fake)
    app.include_router(console_router(default_tenant="acme"))
    return app


@pytest.fixture
def url(app):
    with fake_coordinator.Server(app) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests of a file."""
    from tests.cloud.console.browser import launched  # most tests of the console need no browser

    with launched() as browser:
        yield browser
