"""`twinctl profile import`: what it prints, writes and ends with."""

import json

import pytest

TABLE = "name,at,as,unit\nlevel,input 1,float32,m\npump,input 3,int16,V\n"
MODEL = {
    "id": 64902,
    "group": {
        "name": "m",
        "points": [{"name": "ID", "type": "uint16", "size": 1}, {"name": "Pad", "type": "pad", "size": 1}],
        "groups": [{"name": "g", "count": 0, "points": [{"name": "V", "type": "uint16", "size": 1}]}],
    },
}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "tanks.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models/model_64902.json"
    path.parent.mkdir()
    path.write_text(json.dumps(MODEL))
    return path.parent


def test_one_profile_is_printed_when_no_folder_is_named(shell, table, tmp_path):
    said = shell("profile", "import", "csv", table, "--base", 1, "--name", "acme/tanks", "--firmware", "2.*")
    assert said.code == 0
    assert "2 points: 2 carried, 0 refused" in said.err
    copy = tmp_path / "acme/tanks/2.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_text(said.out)
    assert shell("profile", "validate", copy, "-o", "json").json == []


def test_profiles_are_written_once_and_written_over_only_with_force(shell, table, tmp_path):
    args = ("profile", "import", "csv", table, "--base", 1, "--name", "acme/tanks", "--out", tmp_path / "own")
    assert shell(*args).code == 0
    assert shell(*args).code == 0
    table.write_text(TABLE.replace("input 3", "input 4"))
    said = shell(*args)
    assert (said.code, "ALREADY_EXISTS" in said.err) == (1, True)
    assert shell(*args, "--force").code == 0
    assert "input 4" in (tmp_path / "own/acme/tanks/all.yaml").read_text()


def test_what_is_refused_is_told_and_ends_with_one(shell, table):
    table.write_text(TABLE + "speed,input 3,int16,rpm\n")
    said = shell("profile", "import", "csv", table, "--base", 1)
    assert said.code == 1
    assert "refused: POINT_DUPLICATE speed (line 4): input 3 is read by pump already" in said.err
    assert "pump:" in said.out


def test_a_model_is_found_by_its_number_and_gaps_alone_end_with_zero(shell, models):
    args = ("profile", "import", "sunspec", 64902, "--models", models, "--base", 40070)
    said = shell(*args, "--count", "g=2", "-o", "json")
    assert said.code == 0
    assert [r["reason"] for r in said.json["refusals"]] == ["POINT_RESERVED"]
    (one,) = said.json["profiles"]
    assert (one["found"], one["carried"], one["refused"], one["points"]) == (3, 2, 1, 3)
    assert "g.2.V: {at: holding 40073" in one["text"]
    open_ = shell(*args, "-o", "json")
    assert open_.code == 1
    assert [r["reason"] for r in open_.json["refusals"]] == ["POINT_RESERVED", "POINT_AMBIGUOUS"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("sunspec", "64902"), "--models FOLDER"),
        (("sunspec", "7", "--models", "{models}"), "no model_7.json"),
        (("sunspec", "64902", "--models", "{models}"), "--base ADDRESS"),
        (("sunspec", "64902", "--models", "{models}", "--base", "1", "--count", "g=0"), "GROUP=N"),
        (("sunspec", "64902", "--models", "{models}", "--base", "1", "--count", "h=2"), "groups that repeat: g"),
        (("csv", "{table}"), "--base 0 or --base 1"),
        (("csv", "{table}", "--base", "2"), "--base"),
        (("telegraf", "{table}"), "SOURCE_INVALID"),
        (("csv", "none.csv", "--base", "0"), "FILE_MISSING"),
        (("csv", "{table}", "--base", "0", "--name", "tanks"), "vendor/device"),
    ],
)
def test_what_cannot_begin_says_what_to_do_and_ends_with_two(shell, table, models, args, said):
    told = shell("profile", "import", *[a.format(models=models, table=table) for a in args])
    assert told.code == 2
    assert said in told.err


def test_several_devices_need_a_folder_or_a_choice(shell, tmp_path):
    path = tmp_path / "attributes.csv"
    path.write_text("".join(f"com.victronenergy.{s},/V,d,V,3,uint16,10,R\n" for s in ("grid", "tank")))
    said = shell("profile", "import", "victron", path)
    assert (said.code, "--part with one of grid, tank" in said.err) == (2, True)
    assert "V: {at: holding 3" in shell("profile", "import", "victron", path, "--part", "tank").out
    written = shell("profile", "import", "victron", path, "--out", tmp_path / "own", "-o", "json")
    assert [p["file"] for p in written.json["profiles"]] == [
        str(tmp_path / f"own/victron/{name}/all.yaml") for name in ("grid", "tank")
    ]
    assert "text" not in written.json["profiles"][0]


def test_nothing_is_written_where_nothing_could_be_carried(shell, table, tmp_path):
    table.write_text("name,at\nx,holding\n")
    said = shell("profile", "import", "csv", table, "--base", 0, "--out", tmp_path / "own")
    assert (said.code, (tmp_path / "own").exists()) == (1, False)
    assert "1 points: 0 carried, 1 refused" in said.err
