"""Blocks that earlier builds stored read for ever: golden files of every version, and the dictionary they need."""

import hashlib
from pathlib import Path

import pytest

from bench.telemetry import PER_SECOND, site
from tests.sync.samples import CATALOGUE, MIXED, assert_same, steady
from twinmodel.errors import InputError, StorageError
from twinsync import block, dictionary
from twinsync.frame import VERSION, VERSIONS, opened

GOLDEN = Path(__file__).parents[1] / "golden"


def stored(name):
    return bytes.fromhex((GOLDEN / name).read_text())


@pytest.mark.parametrize("version", VERSIONS)
def test_stored_block_of_every_version_gives_back_every_bit(version):
    payload = stored(f"block_v{version}.hex")
    assert payload[2] == version
    assert_same(block.canonical(MIXED), block.decode(payload, CATALOGUE))


def test_stored_block_of_version_1_that_was_not_compressed_reads_too():
    payload = stored("block_v1_small.hex")
    assert_same(block.canonical(MIXED[1:2]), block.decode(payload, CATALOGUE))


def test_columns_of_this_build_are_those_of_the_golden_file():
    version, count, columns = opened(stored(f"block_v{VERSION}.hex"), CATALOGUE.digest, 10_000)
    assert (version, count) == (VERSION, sum(map(len, MIXED)))
    assert columns == block.columns_of(MIXED, CATALOGUE), "stored bytes changed: raise the version of blocks"


def test_dictionaries_are_the_released_files():
    for number, digest in dictionary.SHA256.items():
        content = (Path(dictionary.__file__).parent / "dictionaries" / f"{number}.zdict").read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    assert max(dictionary.SHA256) == dictionary.LATEST


def test_dictionary_that_is_not_the_released_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "1.zdict").write_bytes(b"something else")
    monkeypatch.setattr(dictionary, "_FOLDER", tmp_path)
    with pytest.raises(StorageError, match="STATE_INVALID"):
        dictionary.load.__wrapped__(1)
    with pytest.raises(InputError, match="BLOCK_UNSUPPORTED"):
        dictionary.load(7)


def test_small_blocks_use_the_dictionary_and_large_ones_do_not():
    assert block.encode([steady(1)], CATALOGUE).payload[3] == 2
    assert block.encode([steady(300)], CATALOGUE).payload[3] == 1


def test_blocks_of_a_plant_stay_within_the_bytes_that_were_promised():
    source = site(minutes=2, seed=7)
    for seconds, most in ((1, 2.2), (10, 1.35), (60, 1.15)):
        size = seconds * PER_SECOND
        payloads = [
            block.encode(source.batches(start, start + size), source.catalogue).payload
            for start in range(0, len(source) - size + 1, size)
        ]
        assert sum(map(len, payloads)) / (size * len(payloads)) <= most
