"""Downloads by digest."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinmodel.errors import InputError, PackageError, StorageError
from twinmodel.files import storage_error
from twinsync.transfer import PartFile, Transfer

BLOB = bytes(range(256)) * 40
DIGEST = hashlib.sha256(BLOB).digest()


@settings(deadline=None)
@given(st.lists(st.integers(0, len(BLOB)), max_size=6))
def test_a_download_cut_anywhere_goes_on_where_it_stopped(tmp_path_factory, cuts):
    folder = tmp_path_factory.mktemp("parts")
    for stop in [*sorted(cuts), len(BLOB)]:
        part = PartFile(folder, DIGEST)
        transfer = Transfer(DIGEST, offset=part.size())
        while transfer.offset < stop:
            chunk = BLOB[transfer.offset : min(transfer.offset + 777, stop)]
            start = transfer.offset
            transfer.accept(start, len(BLOB), len(chunk))
            part.append(chunk, start)
    assert transfer.offset == len(BLOB)
    part.finish(folder / "whole")
    assert (folder / "whole").read_bytes() == BLOB
    assert part.size() == 0


def test_altered_bytes_are_thrown_away(tmp_path):
    part = PartFile(tmp_path, DIGEST)
    part.append(b"!" + BLOB[1:], 0)
    with pytest.raises(PackageError, match="PACKAGE_ALTERED"):
        part.finish(tmp_path / "whole")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("offset", "total", "size", "reason"),
    [
        (0, 65 << 20, 10, "LIMIT_EXCEEDED"),
        (0, 0, 0, "LIMIT_EXCEEDED"),
        (5, 100, 10, "PROTOCOL_VIOLATION"),
        (0, 100, 101, "PROTOCOL_VIOLATION"),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(offset, total, size, reason):
    with pytest.raises(InputError) as caught:
        Transfer(DIGEST).accept(offset, total, size)
    assert caught.value.reason == reason


def test_a_size_that_changes_is_refused():
    transfer = Transfer(DIGEST)
    transfer.accept(0, 100, 10)
    with pytest.raises(InputError, match="were announced"):
        transfer.accept(10, 101, 10)


def test_a_part_beyond_the_bound_is_thrown_away(tmp_path):
    part = PartFile(tmp_path, DIGEST, bytes_max=100)
    part.append(b"x" * 101, 0)
    assert part.size() == 0
    assert not part.path.exists()


def test_a_full_disk_is_told_as_such(tmp_path):
    assert storage_error(OSError(28, "No space left on device"), tmp_path).reason == "STORE_FULL"
    assert storage_error(OSError(30, "Read-only file system"), tmp_path).reason == "STORE_READ_ONLY"
    with pytest.raises(StorageError):
        PartFile(tmp_path / "missing", DIGEST).append(b"x", 0)
