"""A fit from end to end: a new file with its comments, a package that says where it comes from, a report alone."""

import json
import re
from random import Random

import pytest

from twinmodel.errors import InputError
from twinmodel.fit.calibrate import Settings
from twinmodel.fit.publish import fit_model, write_report
from twinmodel.package.archive import inspect, model_id
from twinmodel.package.build import build_document

QUICK = Settings(starts=1, tier="interpreted")


@pytest.fixture
def outcome(tank, data):
    return fit_model(tank, data, Random(1), QUICK, holdout=0.3)


def test_the_new_file_keeps_comments_and_the_package_names_parent_data_and_errors(tank, data, outcome):
    assert "# The comment of a person." in outcome.text
    assert "# of the pump" in outcome.text
    manifest = inspect(outcome.package)
    assert manifest.id == "tank@1.3.0"
    assert manifest.provenance.parent == model_id(build_document(tank))
    assert manifest.provenance.data_sha256 == data.sha256
    assert manifest.provenance.metrics["rmse_holdout_level"] < 0.01
    assert {p.name: p.value for p in manifest.params} == pytest.approx(outcome.calibration.values, rel=1e-9)


def test_the_report_asks_no_network_and_the_summary_is_json(outcome, tmp_path):
    page = write_report(outcome, tmp_path / "report").read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "http://" not in page.replace("http-equiv", "")
    assert page.count("data:image/png;base64,") == 5
    figures = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert figures["model"] == "tank@1.3.0"
    assert figures["rmse"]["hidden"]["level"] < 0.01
    assert (tmp_path / "report" / "run-level.png").read_bytes().startswith(b"\x89PNG")


def test_a_version_is_never_used_twice(tank, data):
    with pytest.raises(InputError, match=r"1\.2\.0 is taken"):
        fit_model(tank, data, Random(1), QUICK, version="1.2.0")
