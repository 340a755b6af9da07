"""Quality as people see it: the name of each reason, and a substituted value that says what it stands for."""

from __future__ import annotations

import pytest

from twinmodel.clock import SECOND_NS
from twinmodel.quality import GOOD, QualityClass, QualityReason, bad, describe, quality, uncertain

TWIN = "/api/v1/tenants/acme/sites/north/twins/P-1"
SUBSTITUTED, ENDED = uncertain(QualityReason.SUBSTITUTED), bad(QualityReason.ABSENT)
NAN = float("nan")


@pytest.fixture
def gateway(plant):
    made = plant.gateway("acme", "north", "gw-1", "P-1")
    made.connect()
    return made


@pytest.fixture
def level(api):
    client = api("viewer")

    async def ask():
        view = await client.get(TWIN)
        assert view.status_code == 200, view.text
        (found,) = (p for p in view.json()["properties"] if p["name"] == "level")
        return found, view.json()

    return ask


async def test_every_reason_is_shown_by_its_name(plant, gateway, level):
    for klass in (QualityClass.UNCERTAIN, QualityClass.BAD):
        for reason in list(QualityReason)[1:]:
            plant.clock.advance(SECOND_NS)
            code = quality(klass, reason)
            gateway.send({"P-1-dev.level": 1.0}, quality=code)
            found, view = await level()
            assert found["reported"]["quality"] == describe(code) == f"{klass.name.lower()}({reason.name})"
            assert describe(code) in view["why"]


def stand_in(gateway, value, code, t_ns=None):
    gateway.send({"P-1/level#estimate": value, "P-1/level#sigma": 0.25}, t_ns=t_ns)
    gateway.send({"P-1/level#substitute": value}, quality=code, t_ns=t_ns)


async def test_a_substitute_is_the_value_with_its_sigma_beside_what_it_stands_for(plant, gateway, level):
    gateway.send({"P-1-dev.level": NAN}, quality=bad(QualityReason.NOT_CONNECTED))
    plant.clock.advance(SECOND_NS)
    stand_in(gateway, 1.5, SUBSTITUTED)
    found, view = await level()
    shown = found["reported"]
    assert (shown["value"], shown["sigma"], shown["origin"]) == (1.5, 0.25, "substituted")
    assert shown["quality"] == "uncertain(SUBSTITUTED)"
    assert found["replaced"]["quality"] == "bad(NOT_CONNECTED)"
    assert found["replaced"]["origin"] == "measured"
    assert "level is uncertain(SUBSTITUTED) for bad(NOT_CONNECTED)" in view["why"]


async def test_a_newer_good_measurement_ends_it_at_once_and_one_that_comes_late_does_not(plant, gateway, level):
    gateway.send({"P-1-dev.level": NAN}, quality=bad(QualityReason.STALE))
    plant.clock.advance(10 * SECOND_NS)
    stand_in(gateway, 1.5, SUBSTITUTED)
    gateway.send({"P-1-dev.level": 7.0}, t_ns=plant.clock.wall_ns() - 5 * SECOND_NS)
    assert (await level())[0]["reported"]["origin"] == "substituted"
    plant.clock.advance(SECOND_NS)
    gateway.send({"P-1-dev.level": 2.0})
    found, _ = await level()
    assert (found["reported"]["value"], found["reported"]["origin"]) == (2.0, "measured")
    assert found["replaced"] is None


async def test_the_end_that_the_gateway_says_shows_the_measurement_again(plant, gateway, level):
    gateway.send({"P-1-dev.level": 3.0}, quality=GOOD)
    plant.clock.advance(SECOND_NS)
    stand_in(gateway, 1.5, SUBSTITUTED)
    assert (await level())[0]["replaced"]["value"] == 3.0
    plant.clock.advance(SECOND_NS)
    stand_in(gateway, NAN, ENDED)
    assert (await level())[0]["reported"]["value"] == 3.0


async def test_after_the_limit_there_is_no_value_and_it_is_stale(plant, gateway, level):
    gateway.send({"P-1-dev.level": 3.0}, quality=bad(QualityReason.DEVICE_FAULT))
    plant.clock.advance(SECOND_NS)
    stand_in(gateway, NAN, bad(QualityReason.STALE))
    found, _ = await level()
    assert (found["reported"]["value"], found["reported"]["quality"]) == (None, "bad(STALE)")
    assert found["replaced"]["quality"] == "bad(DEVICE_FAULT)"


async def test_what_the_gateway_stopped_saying_stands_in_no_more(plant, gateway, level):
    stand_in(gateway, 1.5, SUBSTITUTED)
    plant.clock.advance(31 * SECOND_NS)
    gateway.send({"P-1-dev.level": 900.0}, quality=bad(QualityReason.OUT_OF_RANGE))
    assert (await level())[0]["reported"]["quality"] == "bad(OUT_OF_RANGE)"


async def test_a_substitute_makes_no_twin_fresh_and_without_sigma_it_is_not_shown(plant, gateway, level):
    gateway.send({"P-1-dev.level": NAN}, quality=bad(QualityReason.STALE))
    plant.clock.advance(20 * SECOND_NS)
    gateway.send({"P-1/level#substitute": 1.5}, quality=SUBSTITUTED)
    assert (await level())[0]["reported"]["quality"] == "bad(STALE)"
    stand_in(gateway, 1.5, SUBSTITUTED)
    found, view = await level()
    assert found["reported"]["origin"] == "substituted"
    assert view["freshness_s"] == 20.0


async def test_a_sample_from_the_future_is_stored_and_never_the_newest(plant, gateway, level):
    gateway.send({"P-1-dev.level": 1.0})
    gateway.send(
        {"P-1-dev.level": 66.0}, t_ns=plant.clock.wall_ns() + 60 * SECOND_NS, quality=uncertain(QualityReason.CLOCK)
    )
    assert (await level())[0]["reported"]["value"] == 1.0


async def test_history_tells_what_was_substituted_when_asked(plant, api, gateway):
    gateway.send({"P-1-dev.level": NAN}, quality=bad(QualityReason.STALE))
    stand_in(gateway, 1.5, SUBSTITUTED)
    ask = {"property": "level", "roles": "measured,substitute"}
    series = (await api("viewer").get(f"{TWIN}/history", params=ask)).json()["series"]
    assert series["substitute"]["value"] == [1.5]
    assert series["substitute"]["quality"] == [SUBSTITUTED]
    assert series["measured"]["quality"] == [bad(QualityReason.STALE)]
