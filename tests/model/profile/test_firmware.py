"""Firmware ranges: which versions a profile is for, and which profile is for a version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.errors import ConfigError
from twinmodel.profile.find import find_profile
from twinmodel.profile.firmware import RANGE_MAX, firmware_fits, parse_range, version_key


@pytest.mark.parametrize(
    ("text", "fitting", "others"),
    [
        ("*", ["1", "anything", ""], []),
        (
            ">=2.3, <3",
            ["2.3", "V2.4.1", "2.10", "2.4.1 build 17", "FW 2.9 (x)", "2.4b"],
            ["2.2.9", "3", "3.0", "none", ""],
        ),
        ("2.4", ["2.4", "2.4.0", "v2.4"], ["2.4.1", "2.3"]),
        ("==2", ["2.0.0"], ["2.0.1"]),
        ("2.4.*", ["2.4", "2.4.7"], ["2.5", "2.40", "24"]),
        (">1, !=1.5", ["1.4", "1.5.1"], ["1", "1.5"]),
        ("<=1.2", ["1.2", "1.2-rc1", "0.1"], ["1.2b", "1.3"]),
        ("<3", ["3-rc1", "3.0-beta"], ["3"]),
        (">=160", ["160", "205"], ["99"]),
    ],
)
def test_a_range_takes_the_versions_it_says(text, fitting, others):
    assert all(firmware_fits(text, version) for version in fitting)
    assert not any(firmware_fits(text, version) for version in others)


@pytest.mark.parametrize(
    "text", ["", "x", ">=", "2 - 3", ">=3, <2", "=>2", "2.*.1", ">=2.*", "1,", "1" * 200, ",".join("1" * 9)]
)
def test_what_no_version_can_lie_in_is_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_range(text)


@given(st.text(max_size=RANGE_MAX + 5), st.text(max_size=40))
def test_any_text_is_a_range_or_refused(text, version):
    try:
        found = parse_range(text)
    except ValueError:
        return
    assert found.fits(version) in {True, False}


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.lists(st.integers(0, 99), min_size=1, max_size=4))
def test_numbers_order_versions(one, other):
    padded = [part + [0] * (4 - len(part)) for part in (one, other)]
    keys = [version_key(".".join(map(str, part))) for part in (one, other)]
    assert (keys[0] < keys[1]) == (padded[0] < padded[1])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "acme" / "press").mkdir(parents=True)
    for name, firmware in {"1.0": "<2", "2.0": ">=2, <3", "2.3": ">=2.3, <3", "any": "*"}.items():
        text = (
            f'profile: acme/press\nfirmware: "{firmware}"\nprotocol: modbus\nbase: 0\npoints: {{a: {{at: input 1}}}}\n'
        )
        (tmp_path / "acme" / "press" / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("firmware", "file"),
    [("1.9", "1.0"), ("2.1", "2.0"), ("V2.4.1", "2.3"), ("2.3.0", "2.3"), ("3", "any"), ("?", "any")],
)
def test_the_most_specific_profile_is_for_a_device(folder, firmware, file):
    assert find_profile("acme/press", [folder], firmware).stem == file


def test_a_firmware_nothing_is_for_is_told_with_the_ranges_there_are(folder):
    (folder / "acme" / "press" / "any.yaml").write_text("- no profile")
    with pytest.raises(ConfigError) as caught:
        find_profile("acme/press", [folder], "4.0")
    assert caught.value.reason == "FIRMWARE_UNKNOWN"
    assert caught.value.facts["ranges"] == {"1.0": "<2", "2.0": ">=2, <3", "2.3": ">=2.3, <3"}
    assert "any.yaml" in caught.value.message


def test_without_a_firmware_or_with_a_version_named_nothing_is_compared(folder):
    (folder / "acme" / "press" / "any.yaml").unlink()
    assert find_profile("acme/press", [folder]).stem == "2.3"
    assert find_profile("acme/press/1.0", [folder], "2.4").stem == "1.0"
    with pytest.raises(ConfigError) as caught:
        find_profile("acme/press/1.1", [folder])
    assert caught.value.hint == "did you mean `acme/press/1.0`?"
