"""Models of a site: what starts when the first choice cannot, and how their inputs are wired."""

from __future__ import annotations

import pytest

from tests.edge.downlink.packages import NEW, OLD, package, signed, trust
from twinedge import models
from twinedge.config.catalogue import ModelPorts, build_catalogue
from twinedge.config.load import load_site
from twinedge.models import Models, age_limit_ns
from twinedge.modelstore.store import ModelStore
from twinmodel.errors import ConflictError

S = 1_000_000_000
SITE = """\
site: plant-a
profiles: profiles
devices:
  rig: {modbus: "tcp://127.0.0.1:502", profile: acme/rig}
  press: {opcua: "opc.tcp://127.0.0.1:4840", profile: acme/press}
twins:
  tank:
    definition: two-tanks
    inputs: {pump: rig.pump}
    outputs: {level2: press.level2}
    model: two-tanks
"""
PROFILES = {
    "rig": "profile: acme/rig\nprotocol: modbus\nbase: 0\npoints:\n  pump: {at: holding 0, as: float32, unit: mV}\n",
    "press": 'profile: acme/press\nprotocol: opcua\nnamespace: "urn:acme"\npoints:\n  level2: {at: level2, unit: cm}\n',
}


@pytest.fixture
def site(tmp_path):
    for name, text in PROFILES.items():
        folder = tmp_path / "profiles/acme" / name
        folder.mkdir(parents=True)
        (folder / "1.0.yaml").write_text(text)
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return load_site(path)


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "state", trust(tmp_path / "signers"))


def test_a_desired_model_that_cannot_run_gives_way_to_the_one_before_it(site, store, monkeypatch, tmp_path):
    for version, plant in enumerate((OLD, NEW)):
        store.put(signed(plant))
        store.want("tank", digest=package(plant).digest, version=version, name=plant)
    models = Models(site, store, tmp_path / "kernels")
    build = models.build

    def on_this_machine(twin, found, _loaded):
        if found.version == "1.1.0":
            raise ConflictError("PARITY_FAILED", "other bits")
        return build(twin, found)

    monkeypatch.setattr(models, "build", on_this_machine)
    models.start()
    assert models.slots["tank"].current().package.version == "1.0.0"


def test_silence_makes_a_polled_input_stale_and_a_subscribed_one_not(site, store):
    [runner] = Models(site, store, None).runners
    assert runner.wiring.age_limits_ns == {0: 3 * S, 1: 0}
    assert runner.wiring.units == {0: "mV", 1: "cm"}


def test_a_model_is_refused_for_a_point_whose_range_it_never_holds_in(site, store, tmp_path):
    models = Models(site, store, tmp_path / "kernels")
    rig = site.profiles["rig"]
    far = rig.points["pump"].model_copy(update={"range": (20_000.0, 50_000.0)})
    site.profiles["rig"] = rig.model_copy(update={"points": {"pump": far}})
    with pytest.raises(ConflictError) as caught:
        models.build("tank", package(OLD))
    assert caught.value.reason == "MODEL_UNFIT"
    assert caught.value.facts["misfits"] == ("input pump holds within 0 .. 10 V, pump ranges 20 .. 50 V",)


@pytest.mark.parametrize(
    ("text", "age_s"),
    [
        ("protocol: modbus\nbase: 0\npoints: {a: {at: holding 0, as: int16, every: 2s}}", 6),
        ("protocol: modbus\nbase: 0\npoints: {a: {at: holding 0, as: int16, age: 1min}}", 60),
        ("protocol: opcua\nnamespace: urn:a\npoints: {a: {at: A}}", 0),
        ("protocol: mqtt\ndefaults: {topic: t, every: 1s}\npoints: {a: {at: $.a}}", 3),
        ("protocol: mqtt\ndefaults: {topic: t, every: 1s, expect_every: 30s}\npoints: {a: {at: $.a}}", 30),
        ("protocol: mqtt\ndefaults: {payload: sparkplug}\npoints: {a: {at: A}}", 0),
    ],
)
def test_an_input_ages_by_what_its_protocol_promises(tmp_path, text, age_s):
    folder = tmp_path / "profiles/a/b"
    folder.mkdir(parents=True)
    (folder / "1.yaml").write_text(f"profile: a/b\n{text}\n")
    address = {"modbus": "tcp://h:502", "opcua": "opc.tcp://h:4840", "mqtt": "mqtt://h:1883"}
    protocol = text.split()[1]
    root = ", root: G/N" if "sparkplug" in text else ""
    (tmp_path / "site.yaml").write_text(
        f"site: s\nprofiles: profiles\ndevices:\n  d: {{{protocol}: '{address[protocol]}', profile: a/b{root}}}\n"
    )
    profile = load_site(tmp_path / "site.yaml").profiles["d"]
    assert age_limit_ns(profile, profile.points["a"]) == age_s * S


def test_the_catalogue_is_built_once_for_the_models_that_run(site, store, monkeypatch):
    built = []
    monkeypatch.setattr(models, "build_catalogue", lambda *arguments: built.append(1) or build_catalogue(*arguments))
    made = Models(site, store, None)
    assert made.catalogue() is made.catalogue()
    assert len(built) == 1
    monkeypatch.setattr(made, "running", lambda: {"tank": ModelPorts({"pump": "mV"}, {"level2": "cm"})})
    assert len(made.catalogue()) >= len(build_catalogue(site))
    assert made.catalogue() is made.catalogue()
    assert len(built) == 2
    plan = made.plan(site)
    made.adopt(plan)
    assert made.catalogue() is plan.numbered.catalogue  # built beside the event loop
    assert len(built) == 3
