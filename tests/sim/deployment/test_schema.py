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
        ("steps: [{at: 1s, do: reload, target: n1, refused: VALUE_INVALIT}]", "VALUE_INVALID"),
        ("faults: [{at: 1s, target: T-1, fault: dropuot}]", "did you mean `dropout`"),
        ("faults: [{at: -1s, target: T-1, fault: dropout}]", "no duration"),
        ("faults: [{at: 30s, target: T-1, fault: dropout}]", "not before the end"),
        ("steps: [{at: 31s, do: kill, target: n1}]", "not before the end"),
        (
            "profiles: {m: {profile: x/y, port: 8600, spread: ports, devices: 2}, k: {profile: x/y, port: 8601}}",
            "8601 is that of `profiles.m`",
        ),
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
        "modbus: {}\ngateways: {a/n1: {devices: [T-1], link: T-1}}\n",
        "modbus: {}\ngateways: {n1: {devices: [T-1]}}\n",
        "modbus: {}\ngateways: {a/n1: {devices: [T-1]}, b/n1: {devices: [T-1]}}\n",
        "modbus: {}\ngateways: {a/n1: {devices: [T-9]}}\n",
        "modbus: {}\nsteps: [{at: 1s, do: kill, target: coordinator}]\n",
    ],
)
def test_gateways_need_a_site_a_name_of_their_own_and_devices_there_are(file, text):
    with pytest.raises(ConfigError):
        read_deployment(file(text))


LATER = "faults:\n  - {at: 1s, target: %s, fault: %s, for: 10s}\n  - {at: %s, target: %s, fault: %s}\n"


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        (("T-1", "stuck", "5s", "T-1", "stuck"), False),
        (("T-1", "stuck", "11s", "T-1", "stuck"), True),
        (("T-1", "stuck", "5s", "T-1", "clear"), True),
        (("T-1", "stuck", "5s", "T-1", "late"), True),
        (("T-1", "stuck", "5s", "T-2", "stuck"), True),
        (("wan", "cut", "5s", "wan", "half_open"), False),
        (("wan", "cut", "5s", "wan", "up"), True),
    ],
)
def test_a_fault_that_would_end_another_one_early_is_refused_with_its_line(file, line, fits):
    if fits:
        assert len(read_deployment(file(HEAD + LATER % line)).faults) == 2
        return
    with pytest.raises(ConfigError, match=r"`faults\.0` is on from 1 s to 11 s") as refused:
        read_deployment(file(HEAD + LATER % line))
    assert refused.value.facts["line"] == 7


def test_a_fault_that_comes_again_before_it_is_over_is_refused_once(file):
    text = "faults: [{at: 1s, target: T-1, fault: stuck, for: 10s, repeat: {every: %s, times: 100000}}]\n"
    assert read_deployment(file(HEAD + text % "10s")).faults[0].repeat.times == 100_000
    with pytest.raises(ConfigError) as refused:
        read_deployment(file(HEAD + text % "5s"))
    assert "more" not in refused.value.message


def test_a_check_finds_what_only_devices_models_and_agents_know(file):
    one = "modbus: {devices: 2}\ngateways:\n  north/n2: {devices: [T-2], link: wan}\n"
    check_scenario(file(one))
    for text in (
        "faults: [{at: 1s, target: T-1, fault: stuck, point: colour}]\n",
        "faults: [{at: 1s, target: wan, fault: delay, size: 1000}]\n",
        "models: [nowhere.yaml]\n",
        "profiles: {m: {profile: abb/nothing}}\n",
    ):
        with pytest.raises(ConfigError) as refused:
            check_scenario(file(HEAD + text))
        assert refused.value.facts["line"] == 5
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
