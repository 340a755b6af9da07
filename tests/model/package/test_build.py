"""Building is deterministic: the example plants have one identity, everywhere and for ever."""

from __future__ import annotations

import shutil

import pytest

from twinmodel.errors import ConfigError
from twinmodel.package.archive import inspect, model_id
from twinmodel.package.build import build

# A change here means that a kernel, the format or a model has changed: raise KERNEL_VERSION or the model's version.
GOLDEN = {
    "exchanger": "070141fd0cb8f454ebb0d9b0dde1565f9da343a9bd46ae48af96da874442459f",
    "pump": "da25c3e5b75bc28c5640f55b953fe026d7f8c3080ac84d4e2cf2373fca640b79",
    "two-tanks-1.1": "7e48f02210fe97817e5328f866b5fd2bb2d18b9cf94295557482ced17fd21cd6",
    "two-tanks": "6a04294179abe217d757d874d02b6cfd2e7dddf693019bfa0deff67ef7922aba",
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
