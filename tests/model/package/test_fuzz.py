"""The door of packages under fire: signed lies of every kind are refused, in bounded memory; `--campaign` for more."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinmodel.errors import PackageError
from twinmodel.package.archive import lay_out, load, open_at_desk, pack, unpack
from twinmodel.package.manifest import Manifest, dump
from twinmodel.package.signing import sign

NAMES = ("two-tanks", "exchanger")
REASONS = {"PACKAGE_TRUNCATED", "PACKAGE_ALTERED", "PACKAGE_INVALID", "PACKAGE_UNSIGNED", "SIGNER_UNKNOWN"}
MEMORY = 8 << 20
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20), st.just([]), st.just({})
)  # fmt: skip
JSON = st.recursive(SCALARS, lambda s: st.lists(s, max_size=4) | st.dictionaries(st.text(max_size=8), s, max_size=4))


@contextlib.contextmanager
def bounded():
    """Fails when more memory is taken than any package may need."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def judge(blob, trusted):
    """What is loaded in the end is sound; everything else has a reason."""
    refused, package = None, None
    with bounded():
        try:
            package = load(blob, trusted)
        except PackageError as error:
            refused = error.reason
    if package is None:
        assert refused in REASONS
    else:
        assert dump(package.manifest) == unpack(blob).manifest


def places(node, path=()):
    """Paths of all values of a manifest."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@given(data=st.data(), name=st.sampled_from(NAMES), value=JSON)
def test_a_signed_manifest_with_any_value_replaced_is_refused_or_sound(blobs, key, trusted, data, name, value):
    envelope = unpack(blobs[name])
    fields = json.loads(envelope.manifest)
    path = data.draw(st.sampled_from(list(places(fields))[1:]))
    node = fields
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    judge(sign(pack(text.encode("utf-8", "surrogatepass"), envelope.tensors), key), trusted)


@given(data=st.data(), name=st.sampled_from(NAMES), more=st.binary(max_size=8))
def test_signed_arrays_with_any_bytes_replaced_are_refused_or_sound(blobs, key, trusted, data, name, more):
    envelope = unpack(blobs[name])
    tensors = bytearray(envelope.tensors)
    at = data.draw(st.integers(0, len(tensors) - 1))
    tensors[at : at + len(more)] = more
    judge(sign(pack(envelope.manifest, bytes(tensors)), key), trusted)


@given(data=st.data(), name=st.sampled_from(NAMES))
def test_signed_arrays_of_any_shape_and_number_are_refused_or_sound(packages, key, trusted, data, name):
    package = packages[name]
    chosen = data.draw(st.sampled_from(sorted(package.tensors)))
    shape = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=2))
    kind = package.tensors[chosen].dtype
    drawn = st.floats() if kind.kind == "f" else st.integers(-(2**31), 2**31 - 1)
    value = np.full(shape, data.draw(drawn), kind)
    entries, raw = lay_out({**{n: t.copy() for n, t in package.tensors.items()}, chosen: value})
    fields = package.manifest.model_dump(by_alias=True) | {"tensors": entries}
    judge(sign(pack(dump(Manifest.model_validate(fields)), raw), key), trusted)


@given(sizes=st.lists(st.integers(0, 2**40), min_size=1, max_size=3), offset=st.integers(-64, 2**40))
def test_a_manifest_that_lies_about_its_arrays_allocates_nothing(blobs, key, trusted, sizes, offset):
    envelope = unpack(blobs["two-tanks"])
    fields = json.loads(envelope.manifest)
    fields["tensors"][0] |= {"shape": sizes, "offset": offset}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    judge(sign(pack(text, envelope.tensors), key), trusted)


@given(data=st.data(), name=st.sampled_from(NAMES), cut=st.booleans(), more=st.binary(min_size=1, max_size=8))
def test_a_file_altered_or_cut_anywhere_never_loads(blobs, trusted, data, name, cut, more):
    whole = blobs[name]
    at = data.draw(st.integers(0, len(whole) - 1))
    altered = whole[:at] if cut else whole[:at] + more + whole[at + len(more) :]
    if altered == whole:
        return
    with bounded(), pytest.raises(PackageError):
        load(altered, trusted)
    with bounded(), contextlib.suppress(PackageError):
        # Only the signature, which a desk does not ask for, may have been hit.
        assert open_at_desk(altered).model_id == unpack(whole).model_id.hex()


@pytest.mark.parametrize("depth", [10, 500, 100_000])
def test_a_manifest_that_nests_for_ever_is_refused(blobs, key, trusted, depth):
    envelope = unpack(blobs["pump"])
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        text = opening * depth + b"1" + closing * depth
        blob = pack(text[: 256 * 1024], envelope.tensors)
        with bounded(), pytest.raises(PackageError, match="PACKAGE_INVALID"):
            load(sign(blob, key), trusted)
