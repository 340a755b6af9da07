"""The door of model packages: nothing altered, cut, lying, unsigned or unsafe gets through."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.errors import PackageError
from twinmodel.package import archive
from twinmodel.package.archive import inspect, lay_out, load, model_id, pack, unpack
from twinmodel.package.manifest import Manifest, dump, read
from twinmodel.package.signing import generate_key, key_id, sign

ALLOWED = {"PACKAGE_TRUNCATED", "PACKAGE_ALTERED", "PACKAGE_INVALID", "PACKAGE_UNSIGNED", "SIGNER_UNKNOWN"}


@pytest.fixture(scope="module", params=["two-tanks", "exchanger"])
def blob(blobs, request):
    return blobs[request.param]


def refused(blob, trusted):
    with pytest.raises(PackageError) as caught:
        load(blob, trusted)
    assert caught.value.reason in ALLOWED
    return caught.value.reason


def test_a_signed_package_opens_with_all_its_facts(blob, trusted, key):
    package = load(blob, trusted)
    assert package.signer == key_id(key.public_key()) == archive.signer(blob)
    assert package.model_id == model_id(blob)
    assert len(package.digest) == 32
    assert package.manifest == inspect(blob)
    assert package.dt_ns == 10**9
    assert not any(t.flags.writeable for t in package.tensors.values())
    assert [p.unit for p in package.outputs] in (["m", "m"], ["degC", "degC"])
    port = package.outputs[0]
    assert port.low < port.nominal < port.high
    assert port.resolution > 0


def test_the_model_id_does_not_depend_on_the_signer_but_the_digest_does(blob, trusted):
    other = generate_key()
    again = load(sign(blob, other), {key_id(other.public_key()): other.public_key()})
    assert again.model_id == load(blob, trusted).model_id
    assert again.digest != load(blob, trusted).digest


def test_an_unsigned_package_can_be_viewed_but_not_loaded(blob, trusted):
    envelope = unpack(blob)
    unsigned = pack(envelope.manifest, envelope.tensors)
    assert inspect(unsigned).name
    assert refused(unsigned, trusted) == "PACKAGE_UNSIGNED"


def test_a_signer_nobody_knows_is_refused(blob):
    assert refused(blob, {}) == "SIGNER_UNKNOWN"


def test_a_signature_of_another_key_under_a_trusted_name_is_refused(blob, trusted):
    forged = sign(blob, generate_key())
    known = bytes.fromhex(next(iter(trusted)))
    assert refused(forged[:-72] + known + forged[-64:], trusted) == "PACKAGE_ALTERED"


@pytest.mark.parametrize("keep", [0, 4, 8, 40, 63, 64, 100, -73, -72, -1])
def test_a_package_cut_short_is_refused(blob, trusted, keep):
    assert refused(blob[:keep], trusted) == "PACKAGE_TRUNCATED"


def test_bytes_behind_the_package_are_refused(blob, trusted):
    assert refused(blob + b"\0", trusted) == "PACKAGE_ALTERED"


@settings(max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(blobs, trusted, place, bit):
    for whole in (blobs["two-tanks"], blobs["exchanger"]):
        altered = bytearray(whole)
        altered[int(place * len(altered))] ^= 1 << bit
        refused(bytes(altered), trusted)


@settings(max_examples=200)
@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda b: archive.MAGIC + b))
def test_no_bytes_make_the_loader_fail_otherwise(raw):
    with pytest.raises(PackageError):
        load(raw, {})


@given(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_lengths_that_lie_are_refused_before_anything_is_allocated(blobs, trusted, sizes, version):
    blob = blobs["two-tanks"]
    header = archive._HEADER
    fields = (archive.MAGIC, version % 3, sizes[0] % 2**32, sizes[1], sizes[2] % 2**32, 0, blob[32:64])
    raw = header.pack(*fields) + blob[64:]
    tracemalloc.start()
    try:
        refused(raw, trusted)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def resign(key, trusted, manifest_bytes, tensors):
    """A package whose hash and signature are right, whatever it says: what a careless builder could make."""
    return load(sign(pack(manifest_bytes, tensors), key), trusted)


def edited(blob, edit):
    envelope = unpack(blob)
    fields = json.loads(envelope.manifest)
    edit(fields)
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(), envelope.tensors


def _set(*keys_and_value):
    *keys, last, value = keys_and_value

    def edit(fields):
        for key in keys:
            fields = fields[key]
        fields[last] = value

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        _set("schema", "twin/1"), _set("kernel", "mlp"), _set("kernel_version", 1), _set("family", "linear"),
        _set("integrator", "euler"), _set("pool", 1), _set("params", 0, "bounds", [0.03, 0.2]), _set("dt_ns", 0),
        _set("dt_ns", 1.5),
        _set("registers", 100_000), _set("registers", 1), _set("substeps", 0), _set("extra", 1), _set("name", "../x"),
        _set("states", 0, "unit", "furlongs"), _set("states", 0, "start", 0.7), _set("states", []),
        _set("states", 1, "name", "h1"), _set("params", 0, "value", 9.0), _set("params", []), _set("inputs", []),
        _set("inputs", 0, "nominal", 1.0), _set("tensors", 0, "offset", 64), _set("tensors", 0, "shape", [3, 3]),
        _set("tensors", 0, "shape", [1 << 16, 1 << 16]), _set("tensors", 0, "name", "other"), _set("tensors", []),
        _set("tensors", 0, "dtype", "i4"), _set("parity", "ticks", 17), _set("parity", "sha256", "00"),
        _set("regime", "box", {"nothing": [0.0, 1.0]}), _set("outputs", 0, "resolution", 0.0),
    ],
)  # fmt: skip
def test_a_signed_manifest_that_lies_is_refused(blobs, key, trusted, edit):
    raw, tensors = edited(blobs["two-tanks"], edit)
    with pytest.raises(PackageError) as caught:
        resign(key, trusted, raw, tensors)
    assert caught.value.reason == "PACKAGE_INVALID"


@pytest.mark.parametrize(
    "spoil", [lambda m: m + b" ", lambda m: m.replace(b'":', b'": ', 1), lambda m: b"[" * 100_000, lambda m: b"\xff",
              lambda m: m.replace(b'"dt_ns":1000000000', b'"dt_ns":NaN'), lambda m: b"{}", lambda m: b""],
)  # fmt: skip
def test_a_manifest_that_is_not_canonical_is_refused(blobs, key, trusted, spoil):
    envelope = unpack(blobs["two-tanks"])
    with pytest.raises(PackageError) as caught:
        resign(key, trusted, spoil(envelope.manifest), envelope.tensors)
    assert caught.value.reason == "PACKAGE_INVALID"


def with_tensor(package, **changes):
    tensors = {n: t.copy() for n, t in package.tensors.items()} | changes
    entries, raw = lay_out(tensors)
    fields = package.manifest.model_dump(by_alias=True) | {"tensors": entries}
    return dump(Manifest.model_validate(fields)), raw


@pytest.mark.parametrize(
    "changes",
    [
        {"x0": np.array([np.nan, 0.2])}, {"R": np.array([np.inf, 1.0])}, {"R": np.array([0.0, 1.0])},
        {"P0": np.array([[1.0, 2.0], [0.0, 1.0]])}, {"Q": -np.eye(2)}, {"x0": np.array([5.0, 0.2])},
        {"low": np.array([3.0, 0.0])}, {"rates": np.array([[0, 4000, 0, 0]], np.int32)},
        {"rates": np.array([[0, 8, 0, -5]], np.int32)}, {"rates": np.array([[77, 8, 0, 0]], np.int32)},
        {"rate_results": np.array([0, 1 << 30], np.int32)}, {"readings": np.array([[0, 0, 0, 0]], np.int32)},
        {"rates": np.tile(np.array([[0, 8, 0, 1]], np.int32), (5000, 1))}, {"more": np.zeros(3)},
        {"params": np.array([0.02, 0.02, 0.003])}, {"parity_y": np.full((16, 2), np.inf)}, {"consts": np.zeros(3)},
        {"parity_u": np.zeros((16, 2))},
    ],
)  # fmt: skip
def test_a_signed_package_with_unsafe_arrays_is_refused(packages, key, trusted, changes):
    with pytest.raises(PackageError) as caught:
        resign(key, trusted, *with_tensor(packages["two-tanks"], **changes))
    assert caught.value.reason == "PACKAGE_INVALID"


def test_bytes_between_the_arrays_are_refused(packages, key, trusted):
    raw, tensors = with_tensor(packages["two-tanks"])
    spoiled = bytearray(tensors)
    entry = next(e for e in packages["two-tanks"].manifest.tensors if e.name == "x0")
    spoiled[entry.offset + 20] = 1
    with pytest.raises(PackageError, match="gap behind"):
        resign(key, trusted, raw, bytes(spoiled))
    with pytest.raises(PackageError, match="behind the last"):
        resign(key, trusted, raw, tensors + bytes(64))


def test_a_manifest_survives_writing_and_reading(packages):
    for package in packages.values():
        assert read(dump(package.manifest)) == package.manifest
        assert package.manifest.id == f"{package.name}@{package.version}"
