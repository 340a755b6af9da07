"""Other numbers in a model file: comments and layout stay, faults are refused, the old document is untouched."""

from __future__ import annotations

import pytest

from twinmodel.equations.load import load, read
from twinmodel.equations.revise import dump, with_params
from twinmodel.errors import ConfigError, InputError
from twinmodel.package.archive import inspect, model_id
from twinmodel.package.build import build_document


@pytest.fixture
def document(plants):
    return load(plants / "two-tanks.yaml")


def test_a_file_that_is_read_and_written_keeps_comments_and_package(document, plants):
    text = dump(document)
    assert text.startswith("# Two tanks in a row")
    assert build_document(read(text)) == build_document(document)
    changed = [
        (a, b)
        for a, b in zip(text.splitlines(), (plants / "two-tanks.yaml").read_text().splitlines(), strict=True)
        if a != b
    ]
    assert changed == []


def test_new_numbers_make_a_new_model_and_leave_the_old_one(document):
    before = dump(document)
    fitted = with_params(
        document,
        {"k1": 0.0212345678912345, "k3": {"value": 0.019, "sigma": 0.0001, "bounds": (0.01, 0.03)}},
        noise={"process": {"h1": 0.0003}, "measurement": {"level2": 0.004}},
        provenance={"parent": model_id(build_document(document)), "metrics": {"rmse": 0.001}, "author": "A. Plant"},
        regime={"rate": {"pump": 2.0}},
        version="1.2.0",
    )
    assert dump(document) == before
    assert fitted.spec.params["k1"].value == 0.02123456789
    assert fitted.spec.params["k1"].bounds == (0.002, 0.2)
    assert (fitted.spec.params["k3"].sigma, fitted.spec.params["k3"].bounds) == (0.0001, (0.01, 0.03))
    assert fitted.spec.noise.process == {"h1": 0.0003, "h2": 0.0002}
    assert fitted.spec.noise.measurement == {"level1": 0.002, "level2": 0.004}
    again = with_params(fitted, {}, provenance={"metrics": {"nrmse": 0.1}})
    assert again.spec.provenance.metrics == {"rmse": 0.001, "nrmse": 0.1}
    manifest = inspect(build_document(again))
    assert (manifest.version, manifest.provenance.author, manifest.regime.rate) == ("1.2.0", "A. Plant", {"pump": 2.0})
    assert manifest.regime.box["pump"] == (0.0, 10.0)
    assert dump(again).startswith("# Two tanks in a row")


def test_a_parameter_given_as_a_plain_number_is_changed_too(document):
    text = dump(document).replace(
        "k1: {value: 0.02, unit: m^0.5/s, bounds: [0.002, 0.2], calibrate: true, sigma: 0.005}", "k1: 0.02"
    )
    short = read(text)
    assert with_params(short, {"k1": 0.03}).spec.params["k1"].value == 0.03
    assert with_params(short, {"k1": {"sigma": 0.1}}).spec.params["k1"].sigma == 0.1


def test_what_does_not_fit_is_refused(document):
    with pytest.raises(InputError, match="'k2' is no parameter of two-tanks; the nearest is"):
        with_params(document, {"k2": 1.0})
    for change in ({"k1": 5.0}, {"k1": float("nan")}, {"k1": {"bound": [0, 1]}}):
        with pytest.raises(ConfigError) as caught:
            with_params(document, change)
        assert caught.value.facts["path"].endswith("two-tanks.yaml")
    with pytest.raises(ConfigError, match="no such name"):
        with_params(document, {}, noise={"process": {"h9": 1.0}})
