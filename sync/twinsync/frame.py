"""The outside of a block: a header that says what it is, and its columns, compressed where that saves bytes.

    payload = "TB" version codec count schema [dictionary] | columns (plain, or one zstd frame that declares its size)

Small blocks are compressed with a dictionary that both tiers ship; the byte before their frame names it, in the place
of the frame's magic number, which is left out.
"""

from __future__ import annotations

import struct
import threading

import zstandard

from twinmodel.errors import InputError
from twinsync import dictionary, limits
from twinsync.columns import corrupt

MAGIC = b"TB"
VERSION = 2
VERSIONS = (1, 2)
"""Versions this build reads; it writes the last."""

_PLAIN, _ZSTD, _DICTIONARY = 0, 1, 2
_SCHEMA_BYTES = 4
_HEADER = struct.Struct("<2sBBI4s")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LATEST = bytes((dictionary.LATEST,))
# Larger columns bring tables of their own that fit them better than those of the dictionary.
_DICTIONARY_BELOW_BYTES = 1 << 12


def sealed(columns: bytes, count: int, schema: bytes) -> bytes:
    """The payload of a block of `count` samples; raises InputError LIMIT_EXCEEDED when it is too large."""
    if len(columns) > limits.BLOCK_RAW_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"columns of {len(columns)} bytes, at most {limits.BLOCK_RAW_BYTES_MAX}")
    if len(columns) < _DICTIONARY_BELOW_BYTES:
        codec, body = _DICTIONARY, _LATEST + _thread.small.compress(columns)[len(_ZSTD_MAGIC) :]
    else:
        codec, body = _ZSTD, _thread.large.compress(columns)
    if len(body) >= len(columns):
        codec, body = _PLAIN, columns
    payload = _HEADER.pack(MAGIC, VERSION, codec, count, schema[:_SCHEMA_BYTES]) + body
    if len(payload) > limits.BLOCK_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"a block of {len(payload)} bytes, at most {limits.BLOCK_BYTES_MAX}")
    return payload


def opened(payload: bytes, schema: bytes, count_max: int) -> tuple[int, int, bytes]:
    """Version, sample count and columns of a payload.

    Raises:
        InputError: BLOCK_CORRUPT, or BLOCK_UNSUPPORTED when a newer build wrote it.
    """
    if not _HEADER.size < len(payload) <= limits.BLOCK_BYTES_MAX:
        corrupt(f"{len(payload)} bytes")
    magic, version, codec, count, found = _HEADER.unpack_from(payload)
    if magic != MAGIC or version == 0 or codec > _DICTIONARY or (version == 1 and codec == _DICTIONARY):
        corrupt(f"starts with {payload[:4].hex()}")
    if version not in VERSIONS:
        raise InputError("BLOCK_UNSUPPORTED", f"block payload: version {version}, this build reads {VERSIONS}")
    if found != schema[:_SCHEMA_BYTES]:
        corrupt(f"is of schema {found.hex()}, not {schema[:_SCHEMA_BYTES].hex()}")
    if not 1 <= count <= min(count_max, limits.BLOCK_SAMPLES_MAX):
        corrupt(f"claims {count} samples, at most {min(count_max, limits.BLOCK_SAMPLES_MAX)} are taken")
    body = payload[_HEADER.size :]
    if codec == _PLAIN:
        return version, count, body
    if codec == _ZSTD:
        return version, count, _decompressed(_thread.plain, body)
    return version, count, _decompressed(_thread.reader(body[0]), _ZSTD_MAGIC + body[1:])


def _decompressed(reader: zstandard.ZstdDecompressor, body: bytes) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        # Unknown is -1, empty is 0: an honest writer declares its size.
        if not 0 < size <= limits.BLOCK_RAW_BYTES_MAX:
            corrupt(f"claims {size} bytes of columns, at most {limits.BLOCK_RAW_BYTES_MAX}")
        return reader.decompress(body, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise InputError("BLOCK_CORRUPT", f"block payload: zstd: {error}") from error


class _Zstd(threading.local):
    """Compressors and decompressors of one thread; none may be shared."""

    def __init__(self) -> None:
        self.large = zstandard.ZstdCompressor(level=1, write_checksum=False)
        self.small = zstandard.ZstdCompressor(
            level=1, write_checksum=False, write_dict_id=False, dict_data=dictionary.compressing()
        )
        self.plain = zstandard.ZstdDecompressor(max_window_size=limits.BLOCK_RAW_BYTES_MAX)
        self._readers: dict[int, zstandard.ZstdDecompressor] = {}

    def reader(self, number: int) -> zstandard.ZstdDecompressor:
        """A decompressor with the dictionary of that number."""
        found = self._readers.get(number)
        if found is None:
            found = self._readers[number] = zstandard.ZstdDecompressor(
                dict_data=dictionary.load(number), max_window_size=limits.BLOCK_RAW_BYTES_MAX
            )
        return found


_thread = _Zstd()
