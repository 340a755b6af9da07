"""Values in documents by their path, and what was wanted of them."""

import pytest

from twinsim.deployment.lookup import ABSENT, fits, look_up

DOCUMENT = {
    "connected": True,
    "model": {"running": "two-tanks@1.0.0"},
    "properties": [{"name": "level1", "estimated": {"value": 0.3}}, {"name": "level2", "estimated": None}],
    "T-1.level2": {"value": 1},
    "items": [],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("connected", True),
        ("model.running", "two-tanks@1.0.0"),
        ("properties.level1.estimated.value", 0.3),
        ("properties.0.name", "level1"),
        ("properties.level2.estimated", None),
        ("T-1.level2.value", 1),
        ("properties.level2.estimated.value", ABSENT),
        ("properties.7", ABSENT),
        ("items.0.kind", ABSENT),
        ("connected.value", ABSENT),
    ],
)
def test_a_path_leads_to_a_value_or_to_nothing(path, value):
    assert look_up(DOCUMENT, path) is value or look_up(DOCUMENT, path) == value


@pytest.mark.parametrize(
    ("found", "wanted", "answer"),
    [
        (1, 1, True),
        (1, True, False),
        (ABSENT, None, False),
        (0.3, {"min": 0, "max": 0.3}, True),
        (0.31, {"min": 0, "max": 0.3}, False),
        (None, {"min": 0}, False),
        (True, {"min": 0}, False),
        ("warn", {"one_of": ["ok", "warn"]}, True),
        ("bad", {"one_of": ["ok", "warn"]}, False),
        ("a long text", {"contains": "long"}, True),
        (["UNACK"], {"contains": "UNACK"}, True),
        (ABSENT, {"exists": False}, True),
        (None, {"exists": False}, True),
        (0, {"exists": True}, True),
        (ABSENT, {"exists": True}, False),
        (0, {"exists": False}, False),
    ],
)
def test_a_value_fits_or_not(found, wanted, answer):
    assert fits(found, wanted) is answer
