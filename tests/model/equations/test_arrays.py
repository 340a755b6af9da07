"""Files of weights and matrices: numbers come through exactly, everything else is refused in bounded memory."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from twinmodel.equations.arrays import FILE_MAX, parse_arrays, read_arrays
from twinmodel.errors import ConfigError

NUMBERS = hnp.arrays(
    st.sampled_from(["<f8", "<f4", ">f8", "<f2", "<i4", "<u1", "<i8"]), hnp.array_shapes(max_dims=3, max_side=5)
)


def npz(compress=False, **arrays):
    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, **arrays)
    return file.getvalue()


def finite(array):
    return np.isfinite(array.astype(np.float64)).all()


@given(NUMBERS.filter(finite), NUMBERS.filter(finite), st.booleans())
def test_what_numpy_saves_is_read_as_it_was(first, second, compress):
    found = parse_arrays(npz(compress, A=first, B=np.asfortranarray(second))).values
    assert found.keys() == {"A", "B"}
    np.testing.assert_array_equal(found["A"], first.astype(np.float64))
    np.testing.assert_array_equal(found["B"], second.astype(np.float64))


@given(NUMBERS.filter(lambda a: finite(a) and a.dtype.byteorder != ">"))
def test_what_safetensors_saves_is_read_as_it_was(array):
    found = parse_arrays(save({"layer.0.weight": np.ascontiguousarray(array)}, {"units": "K"}))
    np.testing.assert_array_equal(found.values["layer.0.weight"], array.astype(np.float64))
    assert found.metadata == {"units": "K"}


def test_short_floats_of_networks_are_read():
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    raw = struct.pack("<Q", len(header)) + header + b"\x80\x3f\x20\xc0"
    assert parse_arrays(raw).values["w"].tolist() == [1.0, -2.5]


class Evil:
    def __reduce__(self):
        return print, ("run",)


def zipped(name, content, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def npy(header, content=b""):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content


def safe(header, content=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + content


ENTRY = {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}
HOSTILE = {
    "objects": npz(A=np.array([Evil()], object)),
    "a pickle": pickle.dumps(Evil()),
    "a pickle in a zip": zipped("A.npy", pickle.dumps(Evil())),
    "texts": npz(A=np.array(["x"])),
    "a record": npz(A=np.zeros(2, [("a", "f8")])),
    "complex numbers": npz(A=np.zeros(2, complex)),
    "no number": npz(A=np.array([np.nan])),
    "infinity": npz(A=np.array([np.inf])),
    "a bomb": zipped("A.npy", bytes(200 << 20)),
    "a bomb with a header": zipped("A.npy", npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }\n")
                                   + bytes(100 << 20)),
    "a shape that lies": zipped("A.npy", npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999,), }\n")),
    "a header of code": zipped("A.npy", npy(b"{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,), }\n")),
    "a header that lies": zipped("A.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff{}"),
    "a size that does not exist": zipped("A.npy", npy(b"{'descr': '<f7', 'fortran_order': False, 'shape': (), }\n")),
    "another name": zipped("../../A.npy", npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (0,), }\n")),
    "another packing": zipped("A.npy", b"x", zipfile.ZIP_BZIP2),
    "a cut zip": npz(A=np.zeros(9))[:-30],
    "many entries": npz(**{f"a{k}": np.zeros(1) for k in range(300)}),
    "nothing": b"",
    "noise": bytes(range(256)),
    "a long header": struct.pack("<Q", 1 << 62) + b"{}" * 50,
    "deep JSON": safe(b"[" * 100_000),
    "a list": safe([]),
    "no such type": safe({"w": ENTRY | {"dtype": "F8_E4M3"}}, bytes(8)),
    "offsets beyond": safe({"w": ENTRY | {"data_offsets": [0, 1 << 60]}}, bytes(8)),
    "offsets below": safe({"w": ENTRY | {"data_offsets": [-8, 0]}}, bytes(8)),
    "a shape beyond": safe({"w": ENTRY | {"shape": [1 << 40, 1 << 40]}}, bytes(8)),
    "a shape below": safe({"w": ENTRY | {"shape": [-1, -1]}}, bytes(8)),
    "a shape of truths": safe({"w": ENTRY | {"shape": [True]}}, bytes(8)),
    "more keys": safe({"w": ENTRY | {"extra": 1}}, bytes(8)),
    "an entry that is none": safe({"w": 5}, bytes(8)),
    "metadata of numbers": safe({"w": ENTRY, "__metadata__": {"a": 1}}, bytes(8)),
    "NaN": safe({"w": ENTRY}, struct.pack("<d", float("nan"))),
    "too large": bytes(FILE_MAX + 1),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_in_little_memory(what, capsys):
    raw = HOSTILE[what]
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as caught:
            parse_arrays(raw, "weights")
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "VALUE_INVALID"
    assert capsys.readouterr().out == ""


@given(st.binary(max_size=200), st.sampled_from([b"", b"PK\3\4", struct.pack("<Q", 40)]))
def test_no_bytes_make_the_reader_fail_otherwise(raw, start):
    with contextlib.suppress(ConfigError):
        parse_arrays(start + raw)


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.sampled_from(["npz", "packed", "safe"]), st.booleans())
def test_a_flipped_or_cut_file_is_refused_or_still_numbers(place, bit, kind, cut):
    arrays = {"A": np.eye(3), "B": np.ones((3, 1))}
    raw = bytearray(save(arrays) if kind == "safe" else npz(kind == "packed", **arrays))
    at = int(place * len(raw))
    if cut:
        del raw[at:]
    else:
        raw[at] ^= 1 << bit
    with contextlib.suppress(ConfigError):
        for array in parse_arrays(bytes(raw)).values.values():
            assert np.isfinite(array).all()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="FILE_MISSING") as caught:
        read_arrays(tmp_path / "none.npz")
    assert caught.value.facts["path"] == str(tmp_path / "none.npz")
