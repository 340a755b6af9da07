"""Messages on a pipe: a length of four bytes, then so many bytes."""

from __future__ import annotations

import struct
from typing import IO

from twinmodel.errors import InputError

FRAME_BYTES_MAX = 64 << 20
_LENGTH = struct.Struct("<I")


def write_frame(pipe: IO[bytes], content: bytes) -> None:
    """Writes one message; raises InputError LIMIT_EXCEEDED when it is too long, BrokenPipeError."""
    if len(content) > FRAME_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"a message of {len(content)} bytes, at most {FRAME_BYTES_MAX}")
    pipe.write(_LENGTH.pack(len(content)) + content)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> bytes | None:
    """The next message, None when the other side is gone; raises InputError when it is none."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > FRAME_BYTES_MAX:
        raise InputError("LIMIT_EXCEEDED", f"a message of {length} bytes, at most {FRAME_BYTES_MAX}")
    content = pipe.read(length)
    return content if len(content) == length else None
