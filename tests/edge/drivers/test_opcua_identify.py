"""Who an OPC UA device is: what it last told counts while it tells nothing."""

from __future__ import annotations

import pytest
from asyncua import ua

from twinedge.drivers import opcua_identify
from twinedge.drivers.link import DeviceLink
from twinedge.drivers.opcua_identify import Identity
from twinmodel.clock import ManualClock

PROFILE = {
    "namespace": "urn:acme",
    "firmware": "1.*",
    "identify": {"at": "Model", "match": "ACME*", "firmware": {"at": "Firmware"}},
    "points": {"flow": {"at": "Flow", "as": "float64"}},
}


@pytest.fixture
def asked(assign, monkeypatch):
    """An identity whose server says what a test wants; None for nothing."""
    assignments, _ = assign(("p", {"opcua": "opc.tcp://127.0.0.1:1/"}, PROFILE))
    link = DeviceLink(assignments[0], ManualClock())
    identity = Identity([link])

    async def resolve(_client, _limits, items):
        for item in items:
            item.node = ua.NodeId(1)

    async def ask(model, firmware):
        async def read_values(_client, _limits, _items):
            silent = ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadNotConnected))
            return [silent if said is None else ua.DataValue(ua.Variant(said)) for said in (model, firmware)]

        monkeypatch.setattr(opcua_identify, "read_values", read_values)
        return {reason for reason, _ in (await identity.strangers(None, None)).values()}

    monkeypatch.setattr(opcua_identify, "resolve", resolve)
    ask.link = link
    return ask


async def test_stranger_that_tells_nothing_while_it_restarts_stays_one_until_it_tells_otherwise(asked):
    assert await asked(None, None) == set()
    assert await asked("ACME 3", "2.0") == {"FIRMWARE_UNKNOWN"}
    assert await asked(None, None) == {"FIRMWARE_UNKNOWN"}
    assert await asked("Other", None) == {"DEVICE_MISMATCH"}
    assert await asked("ACME 3", "1.1") == set()
    assert await asked(None, None) == set()


async def test_what_a_device_says_of_itself_is_bounded_and_obeyed_by_no_terminal(asked):
    await asked("ACME", "1.2\x1b[2J" + "x" * 1000)
    assert asked.link.firmware.startswith("1.2?[2Jxx")
    assert len(asked.link.firmware) == opcua_identify.TEXT_MAX
