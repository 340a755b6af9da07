"""`twinctl profile`: profiles checked, shown and compared on this machine alone."""

from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "firmware-profiles"
PLANTS = ROOT / "examples" / "plants"
TEXT = """\
profile: acme/tanks
firmware: "<2"
protocol: modbus
source: manual 1
base: 0
points:
  level2: {at: input 0, as: float32, unit: m, range: [0, 1]}
  pump: {at: input 2, as: float32, unit: V, range: [0, 10]}
"""


@pytest.fixture
def folder(tmp_path):
    for name, text in {"1.0": TEXT, "2.0": TEXT.replace("<2", ">=2").replace("  pump:", "  drive:")}.items():
        path = tmp_path / f"own/acme/tanks/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "own"


def test_all_findings_of_a_folder_are_listed_with_their_places(shell, folder):
    assert shell("profile", "validate", SHIPPED).code == 0
    assert shell("profile", "validate", SHIPPED, "-o", "json").json == []
    bad = folder / "acme/tanks/3.0.yaml"
    bad.write_text(TEXT.replace("unit: m,", "unti: m,").replace("[0, 10]", "[10, 0]"))
    said = shell("profile", "validate", folder, "-o", "json")
    assert said.code == 2
    places = [(f["line"], f["column"], f["severity"], f["reason"]) for f in said.json]
    assert places == [(7, 38, "error", "UNKNOWN_KEY"), (8, 52, "error", "VALUE_INVALID")]
    assert said.json[0]["hint"] == "did you mean `unit`?"
    assert "1 of 3 refused" in said.err
    bad.write_text(TEXT.replace("[0, 10]", "[10, 0]").replace("holding", "hold").replace("source: manual 1\n", ""))
    assert f"{bad}:7:52" in shell("profile", "validate", bad).out


def test_what_is_allowed_but_likely_wrong_is_a_warning(shell, folder):
    path = folder / "acme/press/3.0.yaml"
    path.parent.mkdir()
    path.write_text(TEXT.replace("as: float32, unit: V, range: [0, 10]", "as: uint16, scale: 0.1, range: [7000, 8000]"))
    said = shell("profile", "validate", path, "-o", "json")
    assert (said.code, {f["severity"] for f in said.json}) == (0, {"warning"})
    assert [f["key"] for f in said.json] == ["profile", "firmware", "points.pump.range"]


def test_a_place_without_profiles_is_told(shell, tmp_path):
    assert shell("profile", "validate", tmp_path).code == 2
    said = shell("profile", "validate", tmp_path / "none.yaml", "-o", "json")
    assert (said.code, said.json[0]["reason"]) == (2, "FILE_MISSING")


def test_a_profile_is_shown_by_name_firmware_and_file_with_what_it_inherits(shell):
    said = shell("profile", "show", "kostal/ksem", "--firmware", "V2.6.2", "--profiles", SHIPPED, "-o", "json")
    assert said.json["points"]["power"]["at"] == "holding 40088"
    assert said.json["points"]["frequency"]["unit"] == "Hz"
    assert "holding 40087" in shell("profile", "show", SHIPPED / "kostal/ksem/2.5.yaml").out
    unknown = shell("profile", "show", "acme/nothing")
    assert (unknown.code, "PROFILE_MISSING" in unknown.err) == (2, True)


def test_profiles_are_listed_with_those_that_are_refused(shell, folder):
    (folder / "acme/tanks/9.yaml").write_text("profile: x")
    rows = {row["name"]: row for row in shell("profile", "list", "--profiles", folder, "-o", "json").json}
    assert rows["acme/tanks/1.0"]["points"] == 2
    assert rows["acme/tanks/9"]["refused"]
    assert rows["sunspec/inverter-three-phase/all"]["protocol"] == "modbus"


def test_the_schema_is_one_editors_can_read(shell):
    jsonschema.Draft202012Validator.check_schema(shell("profile", "schema").json)


def test_a_difference_says_which_models_survive_it(shell, folder, tmp_path):
    names = ("acme/tanks/1.0", "acme/tanks/2.0", "--profiles", folder)
    said = shell("profile", "diff", *names, "-o", "json")
    assert (said.code, [c["what"] for c in said.json["changes"]]) == (1, ["device", "renamed"])
    packages = tmp_path / "packages"
    packages.mkdir()
    shell("model", "build", PLANTS / "two-tanks.yaml", "-o", packages / "tanks.twin")
    said = shell("profile", "diff", *names, "--models", packages, "--model", PLANTS / "pump.yaml", "-o", "json")
    assert said.code == 1
    verdicts = {m["model"].partition("@")[0]: m for m in said.json["models"]}
    assert verdicts["two-tanks"]["verdict"] == "breaks"
    assert verdicts["two-tanks"]["lacks"][0]["reason"] == "MISSING_POINT"
    assert "it is called 'drive' now" in shell("profile", "diff", *names, "--models", packages).out
    (folder / "acme/tanks/2.0.yaml").write_text(TEXT.replace("<2", ">=2").replace("input 2", "input 8"))
    survived = shell("profile", "diff", *names, "--models", packages, "-o", "json")
    assert (survived.code, survived.json["models"][0]["verdict"]) == (0, "survives")
    assert shell("profile", "diff", names[0], names[0], *names[2:]).code == 0


def test_ports_called_otherwise_are_mapped(shell, folder):
    args = (
        "profile",
        "diff",
        "acme/tanks/1.0",
        "acme/tanks/2.0",
        "--profiles",
        folder,
        "--model",
        PLANTS / "two-tanks.yaml",
    )
    said = shell(*args, "--map", "pump=level2", "-o", "json")
    assert said.json["models"][0]["points"]["pump"] == "level2"
    assert shell(*args, "--map", "pump").code == 2
