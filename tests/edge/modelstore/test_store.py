"""Packages on disk, and what should run."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest

from tests.edge.downlink.packages import NEW, OLD, PUMP, STRANGER, package, signed, trust, unsigned
from twinedge.modelstore.store import ModelStore
from twinmodel.errors import MissingError, PackageError, StorageError
from twinmodel.package.signing import sign


@pytest.fixture
def signers(tmp_path):
    return trust(tmp_path / "identity" / "signers")


@pytest.fixture
def store(tmp_path, signers):
    return ModelStore(tmp_path, signers)


def digest(plant: str) -> bytes:
    return hashlib.sha256(signed(plant)).digest()


def want(store, twin, plant, version):
    store.want(twin, digest=digest(plant), version=version, name=plant)


def test_a_package_is_kept_by_digest_for_its_owner_alone_and_loads_again(store, tmp_path):
    assert store.put(signed(OLD)).digest == digest(OLD)
    path = tmp_path / "models" / f"{digest(OLD).hex()}.twin"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.has(digest(OLD))
    assert store.load(digest(OLD)).name == "two-tanks"


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (unsigned(OLD), "PACKAGE_UNSIGNED"),
        (sign(unsigned(OLD), STRANGER), "SIGNER_UNKNOWN"),
        (signed(OLD)[:-1], "PACKAGE_TRUNCATED"),
    ],
)
def test_what_cannot_be_trusted_is_not_kept(store, tmp_path, blob, reason):
    with pytest.raises(PackageError) as caught:
        store.put(blob)
    assert caught.value.reason == reason
    assert list((tmp_path / "models").iterdir()) == []


def test_a_download_is_verified_before_it_is_kept(store, tmp_path):
    blob = sign(unsigned(OLD), STRANGER)
    name = hashlib.sha256(blob).digest()
    store.part(name).append(blob, 0)
    with pytest.raises(PackageError, match="SIGNER_UNKNOWN"):
        store.take_part(name)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_file_that_changed_on_disk_is_set_aside(store, tmp_path):
    store.put(signed(OLD))
    path = tmp_path / "models" / f"{digest(OLD).hex()}.twin"
    path.write_bytes(signed(OLD)[:-1] + b"?")
    with pytest.raises(PackageError, match="PACKAGE_ALTERED"):
        store.load(digest(OLD))
    assert not store.has(digest(OLD))


def test_a_signer_that_is_trusted_no_more_does_not_load(store, signers):
    store.put(signed(OLD))
    (signers / "release.pem").unlink()
    with pytest.raises(PackageError, match="SIGNER_UNKNOWN"):
        store.load(digest(OLD))


def test_what_should_run_survives_a_restart_and_remembers_what_did_before(store, tmp_path, signers):
    want(store, "tank", OLD, 3)
    want(store, "tank", NEW, 4)
    desired = ModelStore(tmp_path, signers).desired["tank"]
    assert (desired.digest, desired.version, desired.previous) == (digest(NEW).hex(), 4, digest(OLD).hex())
    assert store.version_of("tank") == 4
    assert store.version_of("pump") == -1


def test_what_was_wanted_last_can_be_taken_back(store):
    want(store, "tank", OLD, 3)
    want(store, "tank", NEW, 4)
    store.take_back("tank")
    assert store.version_of("tank") == 3
    want(store, "pump", PUMP, 1)
    store.take_back("pump")
    assert store.version_of("pump") == -1


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"tank": {"digest": "zz"}}', b"\xff\xfe"])
def test_a_damaged_desired_state_is_set_aside_and_the_agent_starts(tmp_path, signers, damage):
    (tmp_path / "desired.json").write_bytes(damage)
    assert ModelStore(tmp_path, signers).desired == {}
    assert (tmp_path / "desired.json.damaged").exists()


def test_a_write_that_fails_changes_nothing(store, tmp_path):
    want(store, "tank", OLD, 3)
    (tmp_path / f"desired.json.{os.getpid()}.new").mkdir()
    with pytest.raises(StorageError):
        want(store, "tank", NEW, 4)
    assert store.version_of("tank") == 3


def test_the_desired_model_wins_over_site_yaml_at_the_start(store, tmp_path):
    store.put(signed(OLD))
    store.put(signed(NEW))
    want(store, "tank", NEW, 1)
    assert store.first("tank", "two-tanks@1.0.0").version == package(NEW).version
    assert store.first("other", "two-tanks@1.0.0").version == "1.0.0"
    assert store.first("other", "") is None


def test_the_last_good_model_starts_when_the_desired_one_is_damaged(store, tmp_path):
    store.put(signed(OLD))
    store.put(signed(NEW))
    want(store, "tank", OLD, 1)
    want(store, "tank", NEW, 2)
    (tmp_path / "models" / f"{digest(NEW).hex()}.twin").write_bytes(b"?")
    assert store.first("tank", "").version == "1.0.0"


def test_a_name_with_an_alias_takes_the_highest_version_that_is_here(store, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "a.twin").write_bytes(signed(OLD))
    (folder / "b.twin").write_bytes(signed(NEW))
    (folder / "c.twin").write_bytes(b"no package")
    assert store.find("two-tanks@champion", folder).version == package(NEW).version
    assert store.find("two-tanks@1.0.0", folder).version == "1.0.0"
    assert store.has(digest(OLD))
    with pytest.raises(MissingError):
        store.find("two-tanks@9.9.9", folder)


def test_pruning_keeps_the_bound_and_what_twins_need(tmp_path, signers):
    store = ModelStore(tmp_path, signers, count_max=1)
    store.put(signed(OLD))
    os.utime(tmp_path / "models" / f"{digest(OLD).hex()}.twin", ns=(1, 1))
    want(store, "tank", OLD, 1)
    store.put(signed(PUMP))
    os.utime(tmp_path / "models" / f"{digest(PUMP).hex()}.twin", ns=(2, 2))
    store.prune()
    assert store.has(digest(OLD))
    assert not store.has(digest(PUMP))
