"""`twinctl model verify`, `diff` and `run`: a package judged and tried on this machine alone."""

import csv
import importlib.util
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

PLANTS = Path(__file__).parents[2] / "examples" / "plants"
TANKS, TANKS_LATER = PLANTS / "two-tanks.yaml", PLANTS / "two-tanks-1.1.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two tanks with noise, their levels in centimetres and with a hole of the sensor."""
    chance = np.random.default_rng(1)
    levels, rows = np.array([0.3, 0.1]), ["time,PU1,LT1 [cm],note"]
    for second in range(150):
        pump = 5.0 if second < 70 else 4.0
        seen = "" if 100 <= second < 105 else f"{100 * (levels[0] + 0.002 * chance.normal()):.4f}"
        rows.append(f"2026-01-31T12:{second // 60:02d}:{second % 60:02d}Z,{pump},{seen},x")
        for _ in range(10):
            upper, lower = 0.02 * np.sqrt(levels)
            levels = levels + 0.1 * np.array([0.002 * pump - upper, upper - lower])
    path = tmp_path_factory.mktemp("data") / "tanks.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def run(shell, data):
    columns = ("--map", "pump=PU1", "--map", "level1=LT1", "--tier", "interpreted")

    def call(*args, model=TANKS, source=("--data", data, *columns)):
        return shell("model", "run", model, *source, *args)

    return call


@pytest.fixture
def package(shell, tmp_path):
    path = tmp_path / "tanks.twin"
    shell("model", "build", TANKS, "-o", path)
    return path


def test_a_sound_package_is_verified_with_its_bits_and_its_time(shell, package):
    said = shell("model", "verify", package, "--tier", "interpreted", "-o", "json")
    assert said.code == 0
    assert (said.json["verdict"], said.json["signature"]) == ("sound", "none")
    assert said.json["tiers"] == {"interpreted": "same"}
    assert 0 < said.json["verify_load_ms"] < 1000
    assert "a gateway would refuse it" in said.err
    assert "interpreted same" in shell("model", "verify", package, "--tier", "interpreted").out


def test_with_trust_the_signature_must_be_of_a_trusted_key(shell, package, tmp_path):
    for name in ("plant", "other"):
        shell("model", "keygen", tmp_path / name)
    check = ("model", "verify", package, "--tier", "interpreted", "-o", "json", "--trust")
    assert shell(*check, tmp_path / "plant.pub").code == 4
    shell("model", "sign", package, "--key", tmp_path / "plant")
    good = shell(*check, tmp_path / "plant.pub")
    assert (good.code, good.json["signature"], good.err) == (0, "valid", "")
    stranger = shell(*check, tmp_path / "other.pub")
    assert (stranger.code, stranger.json["verdict"]) == (4, "refused")
    assert stranger.json["reasons"] == ["SIGNER_UNKNOWN"]
    assert "error: SIGNER_UNKNOWN" in stranger.err


def test_an_altered_package_has_no_verdict_but_an_error(shell, package):
    raw = bytearray(package.read_bytes())
    raw[200] ^= 1
    package.write_bytes(raw)
    refused = shell("model", "verify", package)
    assert (refused.code, refused.out) == (2, "")
    assert "PACKAGE_ALTERED" in refused.err
    assert shell("model", "verify", package.with_name("none.twin")).code == 2
    assert shell("model", "verify", TANKS, "--tier", "gpu").code == 2


def test_a_package_whose_bits_are_not_this_machine_s_is_refused(shell, package):
    from twinmodel.package.archive import pack, unpack

    envelope = unpack(package.read_bytes())
    fields = json.loads(envelope.manifest)
    fields["parity"]["sha256"] = "0" * 64
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    package.write_bytes(pack(text, envelope.tensors))
    refused = shell("model", "verify", package, "--tier", "interpreted", "-o", "json")
    assert (refused.code, refused.json["tiers"]) == (1, {"interpreted": "different"})
    assert "PARITY_FAILED" in refused.err
    assert shell("model", "run", package, "--data", package).code == 1


def test_models_are_compared_like_files(shell, package):
    same = shell("model", "diff", TANKS, package, "-o", "json")
    assert (same.code, same.json) == (0, [])
    other = shell("model", "diff", package, TANKS_LATER, "-o", "json")
    assert other.code == 1
    found = {change["place"]: change for change in other.json}
    assert found["version"]["after"] == "1.1.0"
    assert found["noise.process.h1"]["relative"] == 1.0
    table = shell("model", "diff", package, TANKS_LATER)
    assert "+100 %" in table.out
    assert table.code == 1
    assert shell("model", "diff", package, "nothing.twin").code == 2


def test_a_version_of_the_coordinator_is_compared_and_run(shell, package):
    shell.fake.add_model("tanks", "1.0.0", package.read_bytes())
    assert shell("model", "diff", "tanks@1.0.0", TANKS).code == 0
    assert shell("model", "diff", "tanks@9.0.0", TANKS).code == 1
    assert shell("model", "run", "tanks@1.0.0", "--data", TANKS).code == 2


def test_a_refusal_names_the_package_it_is_about(shell, package, tmp_path):
    cut = tmp_path / "cut.twin"
    cut.write_bytes(package.read_bytes()[:1000])
    commands = (["verify", cut], ["diff", package, cut], ["run", cut, "--data", "x.csv"], ["inspect", cut])
    for command in (*commands, ["sign", cut, "--key", tmp_path / "key"]):
        if command[0] == "sign":
            shell("model", "keygen", tmp_path / "key")
        refused = shell("model", *command)
        assert (refused.code, f"PACKAGE_TRUNCATED {cut}: 1000 of" in refused.err) == (2, True), refused.err


def test_a_model_file_is_verified_and_inspected_as_what_it_builds(shell):
    assert "sound" in shell("model", "verify", TANKS, "--tier", "interpreted").out
    assert "h1' = " in shell("model", "inspect", TANKS).out


def test_results_are_never_written_over_what_they_come_from(run, data):
    before = data.read_bytes()
    for option in ("--out", "--record", "--checkpoint"):
        refused = run(option, data)
        assert (refused.code, "not written over" in refused.err) == (1, True)
    assert data.read_bytes() == before


def test_measured_data_is_filtered_and_scored(run, tmp_path):
    said = run("-o", "json", "--out", tmp_path / "out.csv")
    assert said.code == 0, said.err
    told = said.json
    assert (told["mode"], told["ticks"], told["segments"]) == ("filter", 150, 1)
    level = told["outputs"]["level1"]
    assert level["unit"] == "m"
    assert 0.001 < level["rmse"] < 0.004
    assert 0.6 < level["nis"] < 1.6
    assert 0.8 < level["coverage_90"] < 0.98
    assert told["outputs"]["level2"]["measured"] == 0
    assert "not signed" in said.err
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert len(rows) == 150
    assert rows[102]["level1.measured"] == rows[102]["level1.innovation"] == ""
    assert float(rows[102]["level1.sigma"]) > float(rows[99]["level1.sigma"])
    assert rows[0]["time"] == "2026-01-31T12:00:00.000000000Z"


def test_an_open_loop_sees_no_measurement(run, tmp_path):
    told = run("--free", "--warm-up", "40", "-o", "json", "--out", tmp_path / "out.json").json
    assert told["mode"] == "free"
    assert told["outputs"]["level1"]["rmse"] < 0.005
    assert told["outputs"]["level1"]["nis"] is None
    rows = json.loads((tmp_path / "out.json").read_text())
    assert rows[60]["level1.sigma"] is None
    assert rows[60]["level2.estimate"] > 0
    assert "RMSE" in run("--free").out


def test_a_run_in_two_parts_ends_in_the_state_of_a_run_in_one(run, shell, data, tmp_path):
    lines = data.read_text().splitlines(keepends=True)
    whole = run("-o", "json").json
    part = tmp_path / "part.csv"
    part.write_text("".join(lines[:80]))
    columns = ("--map", "pump=PU1", "--map", "level1=LT1", "--tier", "interpreted", "--checkpoint", tmp_path / "state")
    first = run("-o", "json", source=("--data", part, *columns)).json
    assert first["state_hash"] != whole["state_hash"]
    second = run("-o", "json", source=("--data", data, *columns)).json
    assert (second["ticks"], second["state_hash"]) == (71, whole["state_hash"])
    assert "no tick" in run(source=("--data", part, *columns)).err


def test_a_recorded_run_is_replayed_bit_for_bit_and_a_damaged_one_refused(run, tmp_path):
    record = tmp_path / "run.rec"
    said = run("--record", record, "-o", "json").json
    again = run("-o", "json", "--tier", "interpreted", source=("--replay", record))
    assert (again.code, again.json["replay"], again.json["ticks"]) == (0, "exact", 150)
    assert again.json["state_hash"] == said["state_hash"]
    other = run("--tier", "interpreted", source=("--replay", record), model=TANKS_LATER)
    assert (other.code, "MODEL_UNFIT" in other.err) == (1, True)
    record.write_bytes(record.read_bytes()[:-1])
    assert run("--tier", "interpreted", source=("--replay", record)).code == 2


@pytest.mark.parametrize(
    "args",
    [["--free", "--record", "x"], ["--replay", "x"], ["--map", "pump"], ["--map", "pump=PU1"], ["--tier", "gpu"]],
)
def test_a_wrong_run_is_a_wrong_use(run, args):
    assert run(*args).code == 2


def test_matrices_of_another_tool_become_a_model_that_builds(shell, tmp_path):
    source = tmp_path / "plant.npz"
    np.savez(source, A=[[0.9]], B=[[0.1]], C=[[1.0]], dt=1.0)
    target = tmp_path / "plant.yaml"
    said = shell("--output", "json", "model", "import", "npz", source, "-o", target, "--noise", "y1=0.1")
    assert said.code == 0, said.err
    assert (said.json["model"], said.json["inputs"]) == ("plant@1.0.0", ["u1"])
    built = shell("--output", "json", "model", "build", target, "-o", tmp_path / "a.twin")
    assert built.json["model_id"] == said.json["model_id"]
    direct = ("model", "import", "npz", source, "-o", tmp_path / "b.twin", "--noise", "y1=0.1", "--name", "plant")
    assert shell(*direct).code == 0
    assert (tmp_path / "b.twin").read_bytes() == (tmp_path / "a.twin").read_bytes()
    asked = shell("model", "import", "npz", source, "-o", tmp_path / "c.yaml")
    assert (asked.code, "--noise y1=SIGMA" in asked.err) == (2, True)
    assert not (tmp_path / "c.yaml").exists()
    assert shell("model", "import", "npz", target, "-o", tmp_path / "c.yaml").code == 2
    assert shell("model", "import", "onnx", source, "-o", tmp_path / "c.yaml", "--dt", "1s").code == 2
    assert shell("model", "import", "npz", source, "-o", tmp_path / "c.yaml", "--dt", "soon").code == 2


@pytest.fixture(scope="module")
def lag(tmp_path_factory, service_path):
    """A first-order lag as an FMU, compiled here."""
    source = Path(__file__).parents[1] / "model" / "importers"
    spec = importlib.util.spec_from_file_location("lag_description", source / "test_fmu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    headers = Path(importlib.util.find_spec("fmpy").origin).parent / "c-code"
    place = tmp_path_factory.mktemp("fmu")
    build = [
        service_path("compiler"),
        "-shared",
        "-fPIC",
        "-O1",
        f"-I{headers}",
        source / "lag.c",
        "-o",
        place / "lag.so",
    ]
    subprocess.run(build, check=True)
    content = {"modelDescription.xml": module.DESCRIPTION, "binaries__linux64__lag.so": (place / "lag.so").read_bytes()}
    return module.packed(place / "lag.fmu", **content)


@pytest.mark.service("compiler")
def test_a_foreign_program_runs_only_when_told_so(shell, lag, tmp_path):
    data, out = tmp_path / "data.csv", tmp_path / "out.csv"
    data.write_text("time,u,x\n" + "".join(f"{k / 2},1,{1 - np.exp(-k / 2)}\n" for k in range(9)))
    told = shell("--output", "json", "model", "reference", lag)
    assert (told.code, told.json["kinds"], told.json["step_s"]) == (0, ["CoSimulation", "ModelExchange"], 0.5)
    refused = shell("model", "reference", lag, "--data", data, "--out", out)
    assert (refused.code, out.exists()) == (4, False)
    assert "--run-foreign-code" in refused.err
    run = ("model", "reference", lag, "--data", data, "--run-foreign-code")
    ran = shell("--output", "json", *run, "--out", out)
    assert (ran.code, ran.json["ticks"]) == (0, 9)
    assert ran.json["rmse"]["x"] < 1e-3
    assert out.read_text().splitlines()[0] == "time,u,x,x.measured"
    for wrong in (["--set", "k"], ["--set", "no=1"], ["--as", "ScheduledExecution"], ["--dt", "soon"]):
        assert shell(*run, *wrong).code == 2
