"""A damaged or forged block never does more than be refused with a reason, and takes no memory before that."""

import struct
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.sync.fuzzing import REFUSALS, fuzz_one, header, outcome
from tests.sync.samples import CATALOGUE, MIXED, SIGNALS, batches, steady
from twinmodel.errors import InputError
from twinmodel.signal import Catalogue
from twinsync import block, limits
from twinsync.frame import opened

SAMPLE = block.encode(MIXED, CATALOGUE)
LARGE = block.encode([steady(300)], CATALOGUE)
OLD = bytes.fromhex((Path(__file__).parents[1] / "golden/block_v1.hex").read_text())
COLUMNS = block.columns_of(MIXED, CATALOGUE)


def refused(payload, catalogue=CATALOGUE, reason="BLOCK_CORRUPT", **options):
    with pytest.raises(InputError) as refusal:
        block.decode(payload, catalogue, **options)
    assert refusal.value.reason == reason
    return refusal.value.message


def plain(raw, count=SAMPLE.count):
    return header(count) + raw


def flips(payload):
    # Three and eight share no divisor: every byte is hit, every place in a byte too.
    for position in range(0, len(payload) * 8, 3):
        damaged = bytearray(payload)
        damaged[position // 8] ^= 1 << position % 8
        yield bytes(damaged)


def test_every_truncation_is_refused():
    assert outcome(plain(COLUMNS)) is not None
    for payload in (SAMPLE.payload, OLD, plain(COLUMNS)):
        for length in range(len(payload)):
            refused(payload[:length])
        refused(payload + b"\x00")


def test_flipped_bits_in_every_byte_are_refused_or_decode_within_the_catalogue():
    for damaged in flips(plain(COLUMNS)):
        outcome(damaged)
    for damaged in flips(SAMPLE.payload):
        outcome(damaged)
        with pytest.raises(InputError, match="BLOCK_CORRUPT"):
            block.verify(damaged, SAMPLE.crc32c)


@given(st.data())
def test_overwritten_columns_are_refused_or_decode_within_the_catalogue(data):
    version, count, raw = data.draw(
        st.sampled_from([opened(p, CATALOGUE.digest, limits.BLOCK_SAMPLES_MAX) for p in (SAMPLE.payload, OLD)])
    )
    raw = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        lie = data.draw(st.binary(min_size=1, max_size=8))
        raw[at : at + len(lie)] = lie
    outcome(header(count, version=version) + bytes(raw))


@given(batches(size_max=8), st.integers(0, 2**32), st.binary(min_size=1, max_size=6))
def test_any_block_overwritten_anywhere_is_refused_or_decodes_within_the_catalogue(given_batches, at, lie):
    payload = bytearray(block.encode(given_batches, CATALOGUE).payload)
    at %= len(payload)
    payload[at : at + len(lie)] = lie
    outcome(bytes(payload))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_decode_within_the_catalogue(data):
    fuzz_one(data)


@pytest.mark.parametrize("codec", [1, 2])
def test_zstd_bomb_is_refused_before_memory_is_taken(codec):
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(limits.BLOCK_RAW_BYTES_MAX + 1))
    payload = header(5, codec=codec) + (bomb if codec == 1 else b"\x01" + bomb[4:])
    tracemalloc.start()
    try:
        assert "claims" in refused(payload)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_frame_that_hides_its_size_or_needs_a_huge_window_is_refused():
    hidden = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(COLUMNS)
    assert "claims" in refused(header(SAMPLE.count, codec=1) + hidden)
    # A frame header with a window of a gigabyte, a content of 4 bytes, and no end.
    window = b"\x28\xb5\x2f\xfd" + b"\x80" + bytes((20 << 3,)) + struct.pack("<I", 4)
    refused(header(1, codec=1) + window)


def test_lying_sample_count_is_refused_before_memory_is_taken():
    for payload in (SAMPLE.payload, OLD, LARGE.payload):
        for count in (0, limits.BLOCK_SAMPLES_MAX + 1, 2**32 - 1):
            assert "claims" in refused(payload[:4] + struct.pack("<I", count) + payload[8:])
        (count,) = struct.unpack("<I", payload[4:8])
        for lie in (count - 1, count + 1):
            refused(payload[:4] + struct.pack("<I", lie) + payload[8:])
        assert "at most 3" in refused(payload, count_max=3)


def test_few_bytes_cannot_make_the_decoder_take_much_memory():
    # All columns zero: one run of the most samples there are, one byte for each that the bytes do not hold.
    forged = plain(struct.pack("<IB", 1, 0) + bytes(40), limits.BLOCK_SAMPLES_MAX)
    tracemalloc.start()
    try:
        refused(forged)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_decoding_the_largest_block_stays_within_its_bound_of_memory():
    count = limits.BLOCK_SAMPLES_MAX
    largest = block.encode([steady(count // 20)], CATALOGUE)
    tracemalloc.start()
    try:
        block.decode(largest.payload, CATALOGUE)
        assert tracemalloc.get_traced_memory()[1] < 100 * count
    finally:
        tracemalloc.stop()


def test_block_of_another_catalogue_is_refused():
    for payload in (SAMPLE.payload, OLD):
        assert "schema" in refused(payload, Catalogue(SIGNALS[:7]))
    refused(b"XX" + SAMPLE.payload[2:])
    refused(b"TB\x00" + SAMPLE.payload[3:])


def test_block_of_a_newer_build_is_refused_as_unsupported_not_as_corrupt():
    assert "version 3" in refused(b"TB\x03" + SAMPLE.payload[3:], reason="BLOCK_UNSUPPORTED")
    assert SAMPLE.payload[3] == 2
    other = SAMPLE.payload[:12] + b"\x63" + SAMPLE.payload[13:]
    assert "dictionary 99" in refused(other, reason="BLOCK_UNSUPPORTED")
    assert {"BLOCK_CORRUPT", "BLOCK_UNSUPPORTED"} == REFUSALS
