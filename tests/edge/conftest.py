"""What tests of drivers, of probes and of what is served on site have in common."""

from __future__ import annotations

import pytest

from tests.edge.drivers.mosquitto import Broker


@pytest.fixture
async def broker(service_path, tmp_path):
    """A mosquitto that keeps sessions."""
    made = await Broker(service_path("mosquitto"), tmp_path).start()
    yield made
    made.stop()
