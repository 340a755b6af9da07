"""What is read: fleet, twins, gateways, directives, dead letters."""

import json

import pytest

from twincloud.api.v1 import schemas
from twinmodel.quality import QualityReason, bad


def test_fleet_prints_numbers_sites_and_what_needs_attention_worst_first(shell):
    said = shell("fleet")
    assert said.code == 0
    assert "5 ok, 1 warn, 1 bad, 1 offline" in said.out
    assert said.out.index("harbour/HX-7") < said.out.index("harbour/P-102")
    schemas.FleetSummary.model_validate(shell("fleet", "-o", "json").json)


def test_a_sick_fleet_is_no_failure(shell):
    assert shell("fleet").code == 0
    assert shell("twin", "show", "HX-7").code == 0


def test_twin_list_is_a_bare_array_and_filters(shell):
    rows = shell("twin", "list", "-o", "json").json
    assert [schemas.TwinView.model_validate(row).twin for row in rows][:2] == ["P-101", "P-102"]
    assert {row["site"] for row in shell("twin", "list", "--site", "mill", "-o", "json").json} == {"mill"}
    assert [row["twin"] for row in shell("twin", "list", "--health", "bad", "-o", "json").json] == ["HX-7"]


def test_an_empty_list_is_an_empty_array_and_exit_code_0(shell):
    said = shell("-o", "json", "twin", "list", "--site", "nowhere")
    assert (said.code, said.out, said.err) == (0, "[]\n", "")
    said = shell("twin", "list", "--site", "nowhere")
    assert (said.code, said.out) == (0, "")
    assert said.err == "no twins\n"


def test_fields_cut_both_forms_and_reach_into_objects(shell):
    assert shell("twin", "show", "P-101", "--fields", "twin,model.running", "-o", "json").json == {
        "twin": "P-101",
        "model.running": "pump@1.4.2",
    }
    table = shell("twin", "list", "--fields", "twin,model.tier").out.splitlines()
    assert table[0].split() == ["TWIN", "MODEL.TIER"]
    refused = shell("twin", "list", "--fields", "twinn")
    assert refused.code == 2
    assert "fields are:" in refused.err


def test_show_takes_site_and_name_or_a_name_that_only_one_site_has(shell):
    for name in ("P-101", "harbour/P-101"):
        said = shell("twin", "show", name)
        assert said.code == 0
        assert "harbour/P-101" in said.out
        assert "flow" in said.out


def test_a_substituted_value_is_shown_as_the_models_beside_the_quality_of_its_sensor(shell, monkeypatch):
    monkeypatch.setattr(shell.fake, "quality", bad(QualityReason.NOT_CONNECTED))
    monkeypatch.setattr(shell.fake, "substituted", True)
    said = shell("twin", "show", "P-101", "-o", "json")
    (flow,) = (p for p in said.json["properties"] if p["name"] == "flow")
    assert flow["replaced"]["quality"] == "bad(NOT_CONNECTED)"
    line = shell("twin", "watch", "P-101", "--count", "1").out
    assert "(model)" in line
    assert "uncertain(SUBSTITUTED) for bad(NOT_CONNECTED)" in line


def test_a_name_of_two_sites_is_refused_with_both_candidates(shell):
    refused = shell("twin", "show", "P-103")
    assert refused.code == 2
    assert "harbour/P-103, mill/P-103" in refused.err
    assert refused.out == ""


@pytest.mark.parametrize("name", ["P-1O1", "harbour/P-1O1"])
def test_an_unknown_twin_is_refused_with_the_nearest_name(shell, name):
    refused = shell("twin", "show", name)
    assert refused.code == 1
    assert refused.err.startswith("error: UNKNOWN_TWIN ")
    assert "hint: did you mean harbour/P-101" in refused.err


@pytest.mark.parametrize("name", ["a/b/c", "/b", "a/", ""])
def test_what_is_no_twin_name_is_a_wrong_use(shell, name):
    assert shell("twin", "show", name).code == 2


def test_watch_prints_the_state_now_and_each_change_as_lines_of_json(shell):
    said = shell("twin", "watch", "TK-1", "--count", "3", "-o", "json")
    assert said.code == 0
    views = [schemas.TwinView.model_validate(json.loads(line)) for line in said.out.splitlines()]
    assert len(views) == 3
    assert all(view.twin == "TK-1" for view in views)
    assert views[0] != views[1] != views[2]
    assert views[0].updated <= views[-1].updated


def test_watch_prints_a_line_a_state_for_people(shell):
    lines = shell("twin", "watch", "TK-1", "--count", "2").out.splitlines()
    assert len(lines) == 2
    assert "flow" in lines[0]
    assert "±" in lines[0]


def test_history_joins_the_roles_by_time(shell):
    said = shell("twin", "history", "P-101", "flow", "--from", "10s")
    assert said.code == 0
    assert said.out.splitlines()[0].split() == ["TIME", "MEASURED", "ESTIMATE", "SIGMA", "QUALITY"]
    assert len(said.out.splitlines()) in range(19, 24)
    view = schemas.HistoryView.model_validate(shell("-o", "json", "twin", "history", "P-101", "flow").json)
    assert view.series["measured"].truncated


def test_a_cut_history_says_so_on_stderr(shell):
    assert "only the newest 5 points" in shell("twin", "history", "P-101", "flow", "--points", "5").err


@pytest.mark.parametrize(("text", "code"), [("2026-03-01T12:00:00Z", 0), ("15min", 0), ("yesterday", 2), ("5", 2)])
def test_times_are_rfc_3339_or_ages(shell, text, code):
    assert shell("twin", "history", "P-101", "flow", "--from", text).code == code


def test_an_unknown_property_is_refused(shell):
    refused = shell("twin", "history", "P-101", "colour")
    assert refused.code == 1
    assert "no property 'colour'" in refused.err


def test_gateways_are_listed_and_shown_with_backlog_and_link(shell):
    assert [schemas.GatewayView.model_validate(g).gateway for g in shell("gateway", "list", "-o", "json").json] == [
        "gw-quay",
        "gw-north",
        "gw-rim",
    ]
    said = shell("gateway", "show", "gw-rim")
    assert "away" in said.out
    assert "803500 (1.24 MB)" in said.out
    assert "gw-rim" in shell("gateway", "show", "gw-rin").err


def test_losses_are_a_ledger_and_none_is_an_empty_array(shell):
    assert shell("gateway", "losses", "gw-rim", "-o", "json").json[0]["count"] == 512
    assert shell("gateway", "losses", "mill/gw-north", "-o", "json").out == "[]\n"


def test_dead_letters_and_directives_are_listed(shell):
    assert shell("deadletter", "list", "-o", "json").json[0]["reason"] == "BLOCK_CORRUPT"
    assert shell("directive", "list", "-o", "json").json == []


def test_dead_letter_is_requeued_once(shell):
    letter = str(shell("deadletter", "list", "-o", "json").json[0]["id"])
    assert shell("deadletter", "requeue", letter, "-o", "json").json["samples"] > 0
    assert shell("deadletter", "requeue", letter).code != 0


def test_explain_tells_a_reason_and_finds_the_nearest(shell):
    assert shell("explain", "fenced", "-o", "json").json["grpc"] == "FAILED_PRECONDITION"
    refused = shell("explain", "FENCE")
    assert refused.code == 1
    assert "FENCED" in refused.err


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell, kind):
    said = shell("completion", kind)
    assert said.code == 0
    assert "_TWINCTL_COMPLETE" in said.out
