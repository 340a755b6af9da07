"""One entry for every fuzzer of the block decoder: bytes in, and either samples, or a typed refusal, or a bug."""

import struct

import numpy as np

from tests.sync.samples import CATALOGUE, OF_KIND, assert_same
from twinmodel.errors import InputError
from twinsync import block

REFUSALS = {"BLOCK_CORRUPT", "BLOCK_UNSUPPORTED"}
COUNT_MAX = 4096
_HEADER = struct.Struct("<2sBBI4s")
_PLAIN = 0


def header(count, *, version=2, codec=_PLAIN):
    return _HEADER.pack(b"TB", version, codec, count, CATALOGUE.digest[:4])


def outcome(payload):
    """Decodes hostile bytes: batches, or None for a typed refusal. Any other exception is a bug of the decoder."""
    try:
        found = block.decode(payload, CATALOGUE, count_max=COUNT_MAX)
    except InputError as error:
        if error.reason not in REFUSALS:
            raise
        return None
    assert 1 <= sum(map(len, found)) <= COUNT_MAX
    for batch in found:
        assert len(batch.value) == len(batch.quality) == len(batch.t_ns) == len(batch)
        assert set(np.unique(batch.signal).tolist()) <= set(OF_KIND[batch.kind])
    # What was accepted is a block: it can be packed again and is the same samples then.
    assert_same(found, block.decode(block.encode(found, CATALOGUE).payload, CATALOGUE))
    return found


def fuzz_one(data: bytes) -> None:
    """Feeds bytes to the decoder as a payload, and behind headers of both versions as columns and as frames."""
    outcome(data)
    if len(data) < 3:
        return
    count = int.from_bytes(data[:2], "little") % COUNT_MAX
    for version in (1, 2):
        outcome(header(count, version=version) + data[2:])
    outcome(header(count, codec=1) + data[2:])
    outcome(header(count, codec=2) + b"\x01" + data[2:])
