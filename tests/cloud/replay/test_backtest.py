"""Back-tests tell right models from wrong ones, on copies: the live twin stays as it is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.cloud.plant import START_NS
from tests.cloud.replay.tanks import TICKS, TWIN, Site, truth
from twincloud.operations.task import Task
from twincloud.replay.backtest import Asked, question, work
from twincloud.replay.drawing import draw
from twincloud.replay.judging import Judge
from twinmodel.clock import SECOND_NS
from twinmodel.errors import InputError, MissingError

END_NS = START_NS + TICKS * SECOND_NS
FROM_NS = START_NS + 120 * SECOND_NS


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("backtest"))
    site.run_plant(truth())
    site.references = site.push()
    yield site
    site.store.close()


def asked(site, model="right", against="wrong", **changes):
    names = site.references
    facts = {
        "twin": TWIN,
        "model": names[model],
        "against": names.get(against, ""),
        "from_ns": FROM_NS,
        "to_ns": END_NS,
    }
    return Asked(**{**facts, **changes})


@pytest.fixture(scope="module")
def result(site):
    """Of the right model against the wrong one; and the state of the twin before and after."""
    before = site.store.state_hash(TWIN)
    operation = site.store.ask("acme", question(site.store, asked(site)), by="ann", now_ns=1)
    found = work(Task(operation, site.store))
    assert site.store.state_hash(TWIN) == before
    return found


def test_right_model_is_better_by_an_interval_and_says_so(result):
    found = result["differences"]["level2"]
    assert found["call"] == "better"
    assert found["rmse"] < 0
    assert found["low"] <= found["rmse"] <= found["high"] < 0
    assert 5 < found["effective"] <= found["count"] == TICKS - 120
    assert result["verdict"][0].startswith("two-tanks@1.0.0 predicts level2 better than two-tanks@0.9.0: RMSE")
    assert list(result["differences"]) == ["level2"], "level1 is virtual: nothing measures it"


def test_figures_of_the_right_model_are_those_of_the_noise(result):
    figures = result["candidate"]["outputs"]["level2"]
    assert (figures["count"], figures["missing"]) == (TICKS - 120, 0)
    assert 0.0018 < figures["rmse"] < 0.0025
    assert 0.9 < figures["coverage"][1] < 0.99
    assert 0.8 < figures["nis"] < 1.3
    assert abs(figures["bias"]) < 0.0005
    assert result["candidate"]["regime_coverage"] == 1.0
    assert result["candidate"]["drift_alarms"] == 0
    assert result["candidate"]["outputs"]["level1"]["count"] == 0
    wrong = result["against"]["outputs"]["level2"]
    assert abs(wrong["bias"]) > 2 * abs(figures["bias"])


def test_plot_is_one_svg_with_every_curve(result):
    root = ET.fromstring(draw(result))
    classes = [node.get("class", "") for node in root.iter("{http://www.w3.org/2000/svg}path")]
    for name in ("line measured", "line candidate", "line against", "band"):
        assert name in classes
    assert "http" not in draw(result).replace("http://www.w3.org/2000/svg", "")


def test_same_question_has_the_same_digest_until_history_or_question_change(site):
    first = question(site.store, asked(site)).digest
    assert question(site.store, asked(site)).digest == first
    assert question(site.store, asked(site, against="right")).digest != first
    assert question(site.store, asked(site, to_ns=END_NS - SECOND_NS)).digest != first
    late = START_NS + 30 * SECOND_NS + 500_000_000
    site.send({"plc.level2": [0.1]}, [late])
    second = question(site.store, asked(site)).digest
    assert second != first
    # What the first tick holds is a little older than the warm-up.
    before = {"from_ns": START_NS + 300 * SECOND_NS, "warm_up_ns": 60 * SECOND_NS}
    first = question(site.store, asked(site, **before)).digest
    site.send({"plc.level2": [0.1]}, [START_NS + 239 * SECOND_NS + 500_000_000])
    assert question(site.store, asked(site, **before)).digest != first


def test_twin_with_other_signals_is_another_question(site, monkeypatch):
    first = question(site.store, asked(site)).digest
    gateway, binding, plan = site.store.binding(TWIN)
    other = replace(binding, properties={**binding.properties, "pump": "plc.level2"})
    monkeypatch.setattr(site.store, "binding", lambda _key: (gateway, other, plan))
    assert question(site.store, asked(site)).digest != first


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"to_ns": FROM_NS}, InputError, "REQUEST_INVALID"),
        ({"model": "two-tanks@7.7.7"}, MissingError, "UNKNOWN_MODEL"),
        ({"warm_up_ns": -1}, InputError, "warm_up"),
    ],
)
def test_question_without_an_answer_is_refused_at_once(site, changes, error, words):
    facts = {"twin": TWIN, "model": site.references["right"], "against": "", "from_ns": FROM_NS, "to_ns": END_NS}
    with pytest.raises(error, match=words):
        question(site.store, Asked(**{**facts, **changes}))


def test_period_without_measurements_is_told(site):
    nothing = asked(site, from_ns=END_NS + 86_400 * SECOND_NS, to_ns=END_NS + 86_460 * SECOND_NS)
    task = Task(site.store.ask("acme", question(site.store, nothing), by="ann", now_ns=1), site.store)
    judge = Judge()
    task.compute = lambda _module, messages: [judge.answer(message) for message in messages][-1]
    work(task)
    with pytest.raises(InputError, match="no tick of this period counts"):
        judge.answer({"end": True})
