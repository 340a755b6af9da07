"""Real packages: verified against the signers kept, described by name, ports and signer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.plant import NOW
from twincloud.registry.fitness import misfits, unit_of
from twincloud.registry.packages import key_id_of, verify_package
from twincloud.storage import create, open_store
from twinmodel.clock import ManualClock
from twinmodel.errors import ConfigError, PackageError
from twinmodel.package import archive, signing
from twinmodel.package.build import build
from twinmodel.signal import Catalogue, Kind, Signal, TwinBinding

ROOT = Path(__file__).resolve().parents[3]


def test_signed_package_is_kept_and_described_and_an_altered_one_is_not(tmp_path):
    key = signing.generate_key()
    blob = signing.sign(build(ROOT / "examples/plants/two-tanks.yaml"), key)
    create(tmp_path / "state")
    store = open_store(tmp_path / "state", clock=ManualClock(NOW))
    store.create_tenant("acme", NOW)
    with pytest.raises(PackageError, match="SIGNER_UNKNOWN"):
        store.put_model("acme", blob, NOW)
    key_id = store.add_signer("acme", "release", signing.public_pem(key.public_key()), NOW)
    model = store.put_model("acme", blob, NOW)
    assert (model.signer, model.model_id) == (key_id, archive.model_id(blob))
    manifest = archive.inspect(blob)
    assert dict(model.inputs) == {port.name: port.unit for port in manifest.inputs}
    assert dict(model.outputs) == {port.name: port.unit for port in manifest.outputs}
    assert store.artifact("acme", model.digest) == blob
    with pytest.raises(PackageError):
        store.put_model("acme", blob[:-1] + bytes([blob[-1] ^ 1]), NOW)
    store.close()


def test_key_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="VALUE_INVALID"):
        key_id_of(b"no key")


def test_bytes_that_are_no_package_are_refused():
    with pytest.raises(PackageError):
        verify_package(b"no package", {})


def test_fitness_names_an_unknown_unit_and_takes_the_signals_unit_first():
    signals = (
        Signal(0, "plc.flow", unit="l/s"),
        Signal(1, "plc.odd", unit="furlong"),
        Signal(2, "plc.id", Kind.STRING),
    )
    catalogue = Catalogue(signals)
    binding = TwinBinding(
        "p",
        "pump",
        "",
        {"flow": "plc.flow", "odd": "plc.odd", "id": "plc.id", "free": ""},
        (),
        {"flow": "m3/h", "x": "m"},
    )
    assert unit_of(binding, catalogue, "flow") == "l/s"
    assert unit_of(binding, catalogue, "x") == "m"
    assert misfits({"flow": "m3/h"}, {"x": "mm", "new": "kg"}, binding, catalogue) == ()
    assert "furlong" in misfits({"odd": "m"}, {}, binding, catalogue)[0]
    assert "plc.id is text" in misfits({"id": ""}, {}, binding, catalogue)[0]
    assert "no measured property" in misfits({"free": "1"}, {}, binding, catalogue)[0]
