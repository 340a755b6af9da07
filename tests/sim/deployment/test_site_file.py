"""site.yaml of a plan's gateways: written, overlaid by the plan's own sections, edited by key, read by the agent."""

import pytest

from twinedge.config.load import load_site
from twinmodel.errors import InputError
from twinsim.deployment.running import find_profiles
from twinsim.deployment.schema import Deployment
from twinsim.deployment.site_file import devices_content, edited, merged, site_content, yaml_text
from twinsim.scenario import Scenario

PLAN = Deployment.model_validate(
    {
        "seed": 3,
        "modbus": {"devices": 2},
        "profiles": {"meter": {"profile": "abb/b23", "devices": 2, "set": {"power": 5}}},
        "gateways": {
            "north/n1": {
                "devices": ["T-2", "meter-*"],
                "link": True,
                "config": {"spool": {"sync": "2s"}, "devices": {"T-2": {"unit_id": 9}}},
            }
        },
        "faults": [{"at": "1s", "target": "n1", "fault": "cut"}],
    }
)
METER = {"protocol": "modbus", "address": "tcp://127.0.0.1:7", "profile": "abb/b23/1.0"}
ANNOUNCED = {
    "addresses": {"modbus": "tcp://127.0.0.1:5", "n1": "127.0.0.1:6"},
    "devices": {"T-2": {"protocol": "modbus", "unit_id": 2}} | {f"meter-{k}": METER | {"unit_id": k} for k in (1, 2)},
}


def test_the_agent_reads_what_is_written(tmp_path):
    content = site_content(PLAN, "north/n1", ANNOUNCED, find_profiles())
    content["devices"]["meter-1"]["profile"] = content["devices"]["meter-2"]["profile"] = "abb/b23"
    path = tmp_path / "site.yaml"
    path.write_text(yaml_text(content))
    site = load_site(path).site
    assert (site.site, site.uplink) == ("north", "127.0.0.1:6")
    assert {name: (d.modbus, d.unit_id) for name, d in site.devices.items()} == {
        "T-2": ("tcp://127.0.0.1:5", 9),
        "meter-1": ("tcp://127.0.0.1:7", 1),
        "meter-2": ("tcp://127.0.0.1:7", 2),
    }
    assert (site.spool.disk, site.spool.sync) == (64 * 2**20, 2_000_000_000)


def test_the_simulation_reads_what_is_left_for_it():
    content = devices_content(PLAN, "127.0.0.1:8421")
    read = Scenario.model_validate(content)
    assert (read.seed, read.modbus.devices, read.profiles["meter"].settings) == (3, 2, {"power": "5"})
    assert (read.links["n1"].to, read.faults) == ("127.0.0.1:8421", [])


def test_what_is_over_stands_and_null_takes_away():
    below = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merged(below, {"a": {"b": 3, "c": None}, "d": [2], "e": 4}) == {"a": {"b": 3}, "d": [2], "e": 4}
    assert below == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_keys_are_edited_by_their_path():
    content = {"devices": {"T-1": {"unit_id": 1}}, "site": "north"}
    changes = {"devices.T-1.unit_id": 2, "devices.T-2": {"unit_id": 3}, "spool.sync": "2s", "site": None}
    wanted = {"devices": {"T-1": {"unit_id": 2}, "T-2": {"unit_id": 3}}, "spool": {"sync": "2s"}}
    assert edited(content, changes) == wanted
    with pytest.raises(InputError):
        edited(content, {"site.name": "south"})
