"""Artifacts on disk: whole, durable, checked."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from twincloud.registry.blobs import Blobs
from twinmodel.errors import InputError, MissingError, StorageError

CONTENT = b"package" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def test_bytes_come_back_by_their_digest_and_twice_is_no_error(tmp_path):
    blobs = Blobs(tmp_path)
    assert blobs.put(CONTENT) == blobs.put(CONTENT) == DIGEST
    assert blobs.get(DIGEST) == CONTENT
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [DIGEST]
    assert (tmp_path / DIGEST[:2] / DIGEST).stat().st_mode & 0o777 == 0o600


def test_damaged_file_is_told_and_can_be_written_again(tmp_path):
    blobs = Blobs(tmp_path)
    blobs.put(CONTENT)
    (tmp_path / DIGEST[:2] / DIGEST).write_bytes(b"other")
    with pytest.raises(StorageError, match="STORE_CORRUPT"):
        blobs.get(DIGEST)
    blobs.remove_damaged(DIGEST)
    with pytest.raises(MissingError, match="NOT_FOUND"):
        blobs.get(DIGEST)
    blobs.put(CONTENT)
    assert blobs.get(DIGEST) == CONTENT


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", DIGEST.upper(), DIGEST + "0", "g" * 64])
def test_what_is_no_digest_never_reaches_the_disk(tmp_path, digest):
    with pytest.raises(InputError, match="REQUEST_INVALID"):
        Blobs(tmp_path).get(digest)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "STORE_FULL"), (errno.EROFS, "STORE_READ_ONLY"), (errno.EIO, "STORE_SYNC_FAILED")],
)
def test_disk_that_refuses_leaves_nothing_behind(tmp_path, monkeypatch, code, reason):
    def refuse(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("twincloud.registry.blobs.os.fsync", refuse)
    with pytest.raises(StorageError, match=reason):
        Blobs(tmp_path).put(CONTENT)
    assert [p for p in Path(tmp_path).rglob("*") if p.is_file()] == []
