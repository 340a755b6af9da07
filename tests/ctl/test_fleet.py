"""`twinctl fleet VERB` against a real coordinator in this process."""

from __future__ import annotations

import pytest
from fake_coordinator import Server

from tests.cloud.plant import Plant

TANKS = tuple(f"tank-{n}" for n in range(8))


@pytest.fixture
def plant_shell(shell, tmp_path):
    plant = Plant(tmp_path / "state")
    gateway = plant.gateway("acme", "mill", "gw-1", *TANKS)
    for twin, value in zip(TANKS, (10.0, 10.2, 9.9, 10.1, 9.8, 10.05, 9.95, 40.0), strict=True):
        level = {f"{twin}/level#estimate": 3.0, f"{twin}/level#sigma": 0.25}
        gateway.send({f"{twin}-dev.flow": value, **level})
    token = plant.token("operator")
    app = plant.app()
    with Server(app) as url:
        yield lambda *args: shell(*args, HYBRIDTWIN_URL=url, HYBRIDTWIN_TOKEN=token)
    app.state.threads.close()
    plant.close()


def test_a_fleet_is_made_looked_at_changed_and_forgotten(plant_shell):
    fleet = lambda *args: plant_shell("fleet", *args)  # noqa: E731 - one word at each call
    assert "fleet create" in fleet("list").err
    assert fleet("create", "tanks", "--filter", 'site = "mill"', "--description", "all").code == 0
    assert fleet("create", "tanks", "--filter", "drifting").code == 1
    assert [m["twin"] for m in fleet("members", "tanks", "-o", "json").json] == list(TANKS)
    level = fleet("aggregate", "tanks", "--property", "level", "--role", "estimated")
    assert "3.00 ± 0.25" in level.out
    assert "8/8" in level.out
    said = fleet("aggregate", "tanks", "-o", "json").json
    assert {p["property"] for p in said["properties"]} == {"flow", "level"}
    assert "mill/tank-7" in fleet("outliers", "tanks").out
    changed = fleet("update", "tanks", "--member", "tank-1", "--member", "mill/tank-2", "-o", "json").json
    assert (changed["kind"], changed["description"], len(changed["members"])) == ("static", "all", 2)
    assert fleet("update", "tanks").code == 2
    assert fleet("show", "tanks", "--fields", "kind").code == 0
    assert fleet("delete", "tanks").code == 0
    gone = fleet("show", "tanks")
    assert (gone.code, "UNKNOWN_FLEET" in gone.err) == (1, True)


def test_a_wrong_filter_tells_its_column_and_the_nearest_field(plant_shell):
    refused = plant_shell("fleet", "create", "tanks", "--filter", 'sight = "mill"')
    assert refused.code == 2
    assert "FILTER_INVALID" in refused.err
    assert "column 1" in refused.err
    assert "did you mean site?" in refused.err
