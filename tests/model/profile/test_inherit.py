"""A newer firmware says what differs from the older one, and nothing else."""

from __future__ import annotations

import pytest

from twinmodel.errors import ConfigError
from twinmodel.profile.load import CHAIN_MAX, load_profile

OLD = """\
profile: acme/press
firmware: "<2"
protocol: modbus
source: manual 1
base: 1
order: CDAB
limits: {max_read: 60, connections: 2}
identify: {at: holding 1, as: string(8), match: "PRESS*"}
defaults: {every: 2s}
points:
  pressure: {at: holding 10, as: float32, unit: bar}
  stroke: {at: holding 12, as: int16, scale: 0.1, unit: mm}
  noise: {at: holding 13}
"""
NEW = """\
profile: acme/press
inherits: acme/press/1.0
firmware: ">=2"
limits: {max_read: 100}
points:
  stroke: {at: holding 20, as: int32, unit: mm}
  noise: null
  force: {at: holding 30, unit: kN}
"""


@pytest.fixture
def put(tmp_path):
    def write(name, text):
        path = tmp_path / f"acme/press/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    write("1.0", OLD)
    return write


def refused(path):
    with pytest.raises(ConfigError) as caught:
        load_profile(path, [])
    return caught.value


def test_points_are_replaced_as_a_whole_removed_by_null_and_added(put):
    profile = load_profile(put("2.0", NEW), [])
    assert list(profile.points) == ["pressure", "stroke", "force"]
    assert (profile.points["stroke"].at, profile.points["stroke"].scale) == ("holding 20", None)
    assert (profile.order, profile.base, profile.defaults.every) == ("CDAB", 1, 2_000_000_000)
    assert (profile.limits.max_read, profile.limits.connections) == (100, 2)
    assert (profile.firmware, profile.source, profile.identify.match) == (">=2", "manual 1", "PRESS*")


def test_what_is_inherited_may_come_from_other_folders_and_over_generations(put, tmp_path):
    path = tmp_path / "elsewhere" / "own" / "press" / "3.yaml"
    path.parent.mkdir(parents=True)
    path.write_text('profile: own/press\ninherits: acme/press/2.0\nfirmware: ">=3"\n')
    put("2.0", NEW)
    assert list(load_profile(path, [tmp_path]).points) == ["pressure", "stroke", "force"]


@pytest.mark.parametrize(
    ("old", "new", "line", "reason", "part"),
    [
        ("acme/press/1.0", "acme/press/1.1", 2, "PROFILE_MISSING", "no profile 'acme/press/1.1'"),
        ("acme/press/1.0", "acme/press", 2, "VALUE_INVALID", "names no file"),
        ("acme/press/1.0", "acme/press/2.0", 2, "VALUE_INVALID", "in a circle: acme/press/2.0 -> acme/press/2.0"),
        ('firmware: ">=2"\n', "", 2, "VALUE_INVALID", "its own `firmware`"),
        ("noise: null", "nois: null", 7, "VALUE_INVALID", "has no point 'nois' to remove"),
        ("holding 30", "holding 21", 8, "VALUE_INVALID", "shares registers with stroke"),
        ("unit: kN", "unti: kN", 8, "UNKNOWN_KEY", "did you mean `unit`"),
    ],
)
def test_what_cannot_be_inherited_is_refused_at_its_line(put, old, new, line, reason, part):
    assert old in NEW
    error = refused(put("2.0", NEW.replace(old, new)))
    assert (error.facts["line"], error.reason) == (line, reason)
    assert part in error.message


def test_an_error_in_what_is_inherited_names_that_file(put):
    put("1.0", OLD.replace("unit: bar", "unit: [bar]"))
    error = refused(put("2.0", NEW))
    assert error.facts["path"].endswith("acme/press/1.0.yaml")
    assert error.facts["line"] == 11


def test_circles_and_long_chains_end(put):
    put("1.0", NEW)
    put("2.0", NEW.replace("1.0", "2.1"))
    assert "in a circle" in refused(put("2.1", NEW.replace("1.0", "2.0"))).message
    put("3.0", OLD)
    text = 'profile: acme/press\ninherits: acme/press/3.{}\nfirmware: "{}"\n'
    paths = [put(f"3.{n}", text.format(n - 1, n)) for n in range(1, CHAIN_MAX + 2)]
    assert load_profile(paths[-2], []).firmware == str(CHAIN_MAX)
    assert refused(paths[-1]).reason == "LIMIT_EXCEEDED"
