"""Building is deterministic: the example plants have one identity, everywhere and for ever."""

from __future__ import annotations

import shutil

import pytest

from twinmodel.equations.load import read
from twinmodel.errors import ConfigError, PackageError
from twinmodel.package.archive import inspect, model_id, unpack
from twinmodel.package.build import build, build_document
from twinmodel.package.manifest import read as read_manifest

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


FACTS = """\
regime:
  box: {pump: [0, 10]}
  ellipsoid: {names: [pump, h1], centre: [5, 0.3], shape: [[0.5, 0], [0.1, 4]], limit: 3}
  rate: {pump: 2}
  action: inflate
provenance:
  parent: PARENT
  data_sha256: DATA
  window: ["2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]
  commit: 4f2a
  author: A. Plant
  metrics: {rmse: 0.25}
  notes: {sensor: replaced in March}
""".replace("PARENT", "a" * 64).replace("DATA", "b" * 64)


def test_a_package_says_where_it_is_valid_and_where_it_comes_from(plants):
    text = (plants / "two-tanks.yaml").read_text()
    manifest = inspect(build_document(read(text[: text.index("regime:")] + FACTS)))
    ellipsoid = manifest.regime.ellipsoid
    assert (ellipsoid.names, ellipsoid.shape, ellipsoid.limit) == (["pump", "h1"], [[0.5, 0.0], [0.1, 4.0]], 3.0)
    assert (manifest.regime.rate, manifest.regime.action) == ({"pump": 2.0}, "inflate")
    origin = manifest.provenance
    assert (origin.parent, origin.data_sha256, origin.metrics) == ("a" * 64, "b" * 64, {"rmse": 0.25})
    assert origin.window == ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z")
    assert (manifest.family, manifest.kernel, manifest.integrator, manifest.pool) == ("ode", "ode", "rk4", 0)


@pytest.mark.parametrize(("old", "new"), [(b'"schema":"twin/2"', b'"schema":"twin/1"'), (b'"family":"ode",', b"")])
def test_a_manifest_of_another_version_is_told_from_a_broken_one(plants, old, new):
    raw = unpack(build(plants / "two-tanks.yaml")).manifest
    assert old in raw
    with pytest.raises(PackageError) as caught:
        read_manifest(raw.replace(old, new))
    assert caught.value.reason == "PACKAGE_INVALID"
    assert ("another version (schema is not twin/2" in caught.value.message) == (b"twin/1" in new)
    assert "twinctl model build" in caught.value.hint


def test_a_program_that_takes_too_long_for_a_tick_is_refused(plants):
    text = (plants / "two-tanks.yaml").read_text()
    powers = " + ".join(f"tanh(h1/one*{i})" for i in range(1, 60))
    text = text.replace("params:", "params:\n  one: {value: 1, unit: m}").replace(
        "pump - k1", f"pump*({powers})/60 - k1"
    )
    text = text.replace("dt: 1s", "dt: 1s\nsubsteps: 1000")
    with pytest.raises(ConfigError, match="one tick would need") as caught:
        build_document(read(text))
    assert caught.value.facts["line"] == 8
