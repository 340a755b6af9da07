"""Files of whole plants: what fits together is read, what does not is refused with its line."""

import pytest

from twinmodel.errors import ConfigError, ConflictError, InputError, MissingError
from twinsim.deployment.run import check_scenario, find_scenario, make_anew, run_scenario
from twinsim.deployment.schema import read_deployment

HEAD = """modbus: {devices: 2}
gateways:
  north/n1: {devices: ["T-*"], link: true}
  north/n2: {devices: [T-2], link: wan}
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "plant.yaml"
        path.write_text(text)
        return path

    return write


def test_gateways_take_devices_by_pattern_and_links_by_name(file):
    plan = read_deployment(
        file(HEAD + "faults: [{at: 1s, target: n1, fault: cut}, {at: 1s, target: wan, fault: cut}]\n")
    )
    assert plan.device_names_of("north/n1") == ["T-1", "T-2"]
    assert plan.link_names() == {"n1", "wan"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("steps: [{at: 1s, do: kill, target: n3}]", "'n3'"),
        ("steps: [{at: 1s, do: kill}]", "target"),
        ("steps: [{at: 1s, do: explode, target: n1}]", "do"),
        ("steps: [{at: 1s, do: kill, target: n1, model: x@1}]", "takes no model"),
        ("steps: [{at: 1s, do: assign, target: north/tank-1}]", "needs model"),
        ("steps: [{at: 1s, do: edit, target: n9, set: {a: 1}}]", "'n9' is no gateway"),
        ("steps: [{at: 1s, do: command, target: north/press}]", "site/twin/property"),
        ("expect: [{gateway: n1, twin: north/t, is: {a: 1}}]", "exactly one of"),
        ("expect: [{is: {a: 1}}]", "exactly one of"),
        ("expect: [{gateway: n7, is: {a: 1}}]", "'n7'"),
        ("expect: [{gateway: n1, is: {a: {most: 1}}}]", "one_of"),
        ("expect: [{gateway: n1, is: {}}]", "is"),
        ("expect: [{device: T-9, is: {a: 1}}]", "'T-9'"),
        ("expect: [{command: stop, is: {a: 1}}]", "name: stop"),
        ("faults: [{at: 1s, target: T-3, fault: stuck}]", "'T-3'"),
        ("coordinator: {port: 1}", "chosen by the run"),
        ("lasts: 0s", "lasts"),
        ("samples: {losst: 0}", "samples.losst"),
    ],
)
def test_what_does_not_fit_is_refused_and_said(file, text, part):
    with pytest.raises(ConfigError) as refused:
        read_deployment(file(HEAD + text + "\n"))
    assert part in refused.value.message
    assert refused.value.facts["line"] >= 1


@pytest.mark.parametrize(
    "text",
    [
        "modbus: {}\ngateways: {n1: {devices: [T-1]}}\n",
        "modbus: {}\ngateways: {a/n1: {devices: [T-1]}, b/n1: {devices: [T-1]}}\n",
        "modbus: {}\ngateways: {a/n1: {devices: [T-9]}}\n",
        "modbus: {}\nsteps: [{at: 1s, do: kill, target: coordinator}]\n",
    ],
)
def test_gateways_need_a_site_a_name_of_their_own_and_devices_there_are(file, text):
    with pytest.raises(ConfigError):
        read_deployment(file(text))


def test_a_check_finds_what_only_devices_models_and_agents_know(file):
    one = "modbus: {devices: 2}\ngateways:\n  north/n2: {devices: [T-2], link: wan}\n"
    check_scenario(file(one))
    for text, error in (
        ("faults: [{at: 1s, target: T-1, fault: stuck, point: colour}]\n", InputError),
        ("faults: [{at: 1s, target: wan, fault: delay, size: 1000}]\n", InputError),
        ("models: [nowhere.yaml]\n", ConfigError),
    ):
        with pytest.raises(error):
            check_scenario(file(HEAD + text))
    wrong = one.replace("link: wan}", "link: wan, config: {spool: {disc: 1GiB}}}")
    with pytest.raises(ConflictError, match=r"UNKNOWN_KEY: spool\.disc"):
        check_scenario(file(wrong))


def test_devices_alone_are_no_plant_and_an_unknown_name_has_the_known_ones(file, tmp_path, system_clock):
    with pytest.raises(InputError, match="no gateways"):
        run_scenario(file("modbus: {}\n"), tmp_path / "state", system_clock, print)
    with pytest.raises(MissingError) as missing:
        find_scenario("cut-lnk")
    assert "cut-link" in missing.value.hint


def test_a_run_removes_nothing_that_is_not_its_own(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(InputError):
        make_anew(tmp_path)
    assert (tmp_path / "precious").exists()
    own = tmp_path / "own"
    make_anew(own)
    (own / "old").touch()
    make_anew(own)
    assert not (own / "old").exists()
