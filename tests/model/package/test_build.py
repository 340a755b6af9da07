"""Building is deterministic: the example plants have one identity, everywhere and for ever."""

from __future__ import annotations

import shutil

import pytest

from twinmodel.errors import ConfigError
from twinmodel.package.archive import inspect, model_id
from twinmodel.package.build import build

# A change here means that a kernel, the format or a model has changed: raise KERNEL_VERSION or the model's version.
GOLDEN = {
    "exchanger": "98033473b62814a59e8f2bc011a9042e3ae58276f66268030c6556fcb7b58728",
    "pump": "d51e562410853880dee3860c14dfa360072e27852caf7375b17daad7920fbf08",
    "two-tanks-1.1": "4e0b8ca64c87876dc8102a5ca183081defe72c91257be16963eb8fbea2d5f649",
    "two-tanks": "8ff9ad561ff896f9927ecbbdf4dbb2a68a9a3df7a0b97e6c65acf485b00e3ec2",
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_an_example_plant_has_its_identity(plants, name):
    assert model_id(build(plants / f"{name}.yaml")) == GOLDEN[name]


def test_building_twice_and_elsewhere_gives_the_same_bytes(plants, tmp_path):
    for path in plants.glob("*.yaml"):
        copy = shutil.copy(path, tmp_path)
        assert build(path) == build(copy)


def test_every_example_names_what_it_is(plants):
    manifests = {p.stem: inspect(build(p)) for p in plants.glob("*.yaml")}
    assert {n: (m.name, m.version, m.kernel) for n, m in manifests.items()} == {
        "two-tanks": ("two-tanks", "1.0.0", "ode"), "two-tanks-1.1": ("two-tanks", "1.1.0", "ode"),
        "exchanger": ("exchanger", "1.0.0", "linear"), "pump": ("pump", "1.0.0", "ode"),
    }  # fmt: skip


def test_a_model_without_a_finite_start_is_refused(plants, tmp_path):
    text = (plants / "two-tanks.yaml").read_text().replace("k1*sqrt(max(h1, 0)) - k3", "k1*sqrt(h1 - 1*h1 - k2) - k3")
    text = text.replace("params:\n", "params:\n  k2: {value: 1, unit: m}\n")
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "m.yaml")
    assert caught.value.reason == "EQUATION_INVALID"
