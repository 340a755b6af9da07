"""What is changed: invitations, keys, packages, assignments."""

import stat
from pathlib import Path

import pytest
from fake_coordinator import VIEWER

TANKS = Path(__file__).parents[2] / "examples" / "plants" / "two-tanks.yaml"


def test_a_model_is_built_signed_inspected_and_pushed(shell, tmp_path):
    package, key = tmp_path / "tanks.twin", tmp_path / "plant.key"
    built = shell("--output", "json", "model", "build", TANKS, "-o", package)
    assert built.code == 0
    assert built.json["model"].startswith("two-tanks@")
    assert "not signed" in shell("model", "inspect", package).out
    shell("model", "keygen", key)
    signed = shell("model", "sign", package, "--key", key, "--output", "json")
    assert signed.json["model_id"] == built.json["model_id"]
    assert "false alarms a year" in shell("model", "inspect", package).out
    seen = shell("model", "inspect", package, "-o", "json").json
    assert [d["detector"] for d in seen["detectors"]] == ["chi_square", "cusum", "page_hinkley"]
    assert (seen["signer"], seen["model_id"]) == (signed.json["signer"], built.json["model_id"])
    pushed = shell("model", "push", package, "-o", "json")
    assert pushed.code == 0
    assert pushed.json["size"] == package.stat().st_size


def test_a_build_does_not_overwrite_another_package(shell, tmp_path):
    package = tmp_path / "tanks.twin"
    package.write_bytes(b"mine")
    assert shell("model", "build", TANKS, "-o", package).code == 1
    assert package.read_bytes() == b"mine"
    assert shell("--yes", "model", "build", TANKS, "-o", package).code == 0
    assert shell("model", "build", TANKS, "-o", package).code == 0


def test_a_wrong_model_file_is_told_with_its_line(shell, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nversion: 1.0.0\nequations: 5\n", encoding="utf-8")
    refused = shell("model", "build", bad)
    assert refused.code == 2
    assert f"{bad}:" in refused.err
    assert shell("model", "build", tmp_path / "absent.yaml").code == 2


def test_an_invitation_prints_the_join_line_alone_on_stdout(shell):
    said = shell("gateway", "invite", "mill/gw-new", "--ttl", "30min")
    assert said.code == 0
    assert said.out.startswith("twinedge join https://")
    assert len(said.out.splitlines()) == 1
    assert "once" in said.err
    assert shell("gateway", "invite", "mill/gw-new", "-o", "json").json["token"] == "once-only"


@pytest.mark.parametrize("args", [["gw-new"], ["a/b/c"], ["mill/gw", "--ttl", "soon"]])
def test_a_wrong_invitation_is_a_wrong_use(shell, args):
    assert shell("gateway", "invite", *args).code == 2


def test_a_coarser_period_is_asked_for_shown_and_ended(shell):
    shell.fake.wishes = []
    asked = shell("gateway", "coarsen", "quarry/gw-rim", "bulk", "--period", "500ms", "--for", "24h", "-o", "json")
    assert (asked.code, asked.json["period_s"], asked.json["stream"]) == (0, 0.5, "bulk")
    assert (
        shell("gateway", "coarsen", "quarry/gw-rim", "telemetry", "--period", "10min", "--signal", "press.p").code == 0
    )
    assert "press.p: one in 600 s" in shell("gateway", "show", "quarry/gw-rim").out
    assert [w["signal"] for w in shell("gateway", "show", "quarry/gw-rim", "-o", "json").json["wishes"]] == [
        "",
        "press.p",
    ]
    assert shell("gateway", "coarsen", "quarry/gw-rim", "bulk", "--end").code == 0
    assert "bulk" not in shell("gateway", "show", "quarry/gw-rim").out


@pytest.mark.parametrize(
    "args",
    [["bulk"], ["alarm", "--period", "1s"], ["bulk", "--period", "1s", "--end"], ["bulk", "--period", "soon"]],
)
def test_a_wrong_wish_is_a_wrong_use(shell, args):
    assert shell("gateway", "coarsen", "quarry/gw-rim", *args).code == 2


def test_a_viewer_may_not_invite(shell):
    refused = shell("gateway", "invite", "mill/gw-new", HYBRIDTWIN_TOKEN=VIEWER)
    assert refused.code == 4
    assert refused.err.startswith("error: FORBIDDEN ")


def test_a_key_is_for_its_owner_alone_and_never_overwritten(shell, tmp_path):
    key = tmp_path / "plant.key"
    made = shell("model", "keygen", key, "-o", "json")
    assert made.code == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "PUBLIC KEY" in Path(made.json["public"]).read_text("utf-8")
    before = key.read_bytes()
    assert shell("model", "keygen", key).code == 1
    assert key.read_bytes() == before


def test_a_trusted_key_reaches_the_coordinator(shell, tmp_path):
    shell("model", "keygen", tmp_path / "plant.key")
    said = shell("model", "trust", tmp_path / "plant.key.pub", "-o", "json")
    assert said.code == 0
    assert said.json["key_id"] in shell.fake.signers


def test_a_private_key_is_not_sent_as_a_public_one(shell, tmp_path):
    shell("model", "keygen", tmp_path / "plant.key")
    known = dict(shell.fake.signers)
    assert shell("model", "trust", tmp_path / "plant.key").code == 2
    assert shell.fake.signers == known


def test_models_are_listed_and_inspected_by_name(shell):
    assert {m["version"] for m in shell("model", "list", "-o", "json").json} >= {"1.4.1", "1.4.2"}
    assert "flow [m3/h]" in shell("model", "inspect", "pump@1.4.2").out
    assert shell("model", "inspect", "pump@9.9.9").code == 1


def test_a_package_that_is_none_is_named(shell, tmp_path):
    bad = tmp_path / "bad.twin"
    bad.write_bytes(b"not a package")
    refused = shell("model", "inspect", bad)
    assert refused.code == 2
    assert "PACKAGE_" in refused.err
    assert shell("model", "push", tmp_path / "absent.twin").code == 2
    assert str(tmp_path / "absent.twin") in shell("model", "push", tmp_path / "absent.twin").err


def test_assign_opens_a_directive_and_wait_ends_when_the_gateway_runs_it(shell):
    said = shell("model", "assign", "TK-1", "pump@1.4.1", "--wait", "-o", "json")
    assert said.code == 0
    assert said.json["outcome"] == "APPLIED"
    assert shell("directive", "list", "--target", "TK-1", "-o", "json").json[0]["name"] == "pump@1.4.1"


def test_assign_with_wait_fails_by_the_reason_of_the_gateway(shell):
    shell.fake.outcome = "REJECTED"
    refused = shell("model", "assign", "TK-1", "pump@1.4.1", "--wait")
    assert refused.code == 1
    assert "PARITY_FAILED" in refused.err


def test_assign_with_wait_ends_when_the_gateway_says_nothing(shell):
    shell.fake.outcome = ""
    refused = shell("model", "assign", "quarry/P-301", "pump@1.4.1", "--wait", "--wait-timeout", "0.2")
    assert refused.code == 1
    assert "DIRECTIVE_OPEN" in refused.err


@pytest.mark.parametrize(
    ("args", "code"), [(["TK-1", "pump"], 2), (["TK-1", "pump@9"], 1), (["TK-x", "pump@1.4.1"], 1)]
)
def test_a_wrong_assignment_is_refused_and_opens_nothing(shell, args, code):
    assert shell("model", "assign", *args).code == code
    assert shell.fake.directives == []
