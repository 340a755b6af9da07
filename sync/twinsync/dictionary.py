"""The dictionaries that small blocks are compressed with: shipped as files, named by a number, pinned by digest.

A dictionary that was once released stays for ever: spools and databases hold blocks that need it. A new one gets the
next number; `deploy/dev/train_dictionary.py` makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import zstandard

from twinmodel.errors import InputError, StorageError

LATEST = 1
"""Number of the dictionary that new blocks use."""

SHA256: Mapping[int, str] = {
    1: "cb8dcb3fc9df8ab1370140f7329e96dd8ec778aa46321c768c1e1ca39bd32374",
}
"""Digest of each dictionary's file, by number."""

_LEVEL = 1
_FOLDER = Path(__file__).parent / "dictionaries"


@cache
def load(number: int) -> zstandard.ZstdCompressionDict:
    """A dictionary, ready to decompress.

    Raises:
        InputError: BLOCK_UNSUPPORTED when this build does not ship it.
        StorageError: STATE_INVALID when its file is not the one that was released.
    """
    if number not in SHA256:
        raise InputError("BLOCK_UNSUPPORTED", f"block payload: dictionary {number}, this build has {list(SHA256)}")
    path = _FOLDER / f"{number}.zdict"
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[number]:
        raise StorageError("STATE_INVALID", f"{path}: has sha256 {found}, {SHA256[number]} was released")
    return zstandard.ZstdCompressionDict(content)


@cache
def compressing() -> zstandard.ZstdCompressionDict:
    """The latest dictionary, ready to compress."""
    found = load(LATEST)
    found.precompute_compress(level=_LEVEL)
    return found
