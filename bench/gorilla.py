"""Gorilla as in its paper (Pelkonen et al., VLDB 2015): delta of delta for times, XOR for doubles, a stream a signal.

Straight from sections 4.1.1 and 4.1.2, compiled with numba; times in milliseconds, qualities left out.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

# A sample never takes more: both classes without a class, and their prefixes.
_ROOM_BITS = 2 * 64 + 2 * 13
Bytes = NDArray[np.uint8]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@numba.njit(cache=True)
def _put(out: Bytes, at: int, value: np.uint64, bits: int) -> int:
    for place in range(bits - 1, -1, -1):
        if (value >> np.uint64(place)) & np.uint64(1):
            out[at >> 3] |= np.uint8(128 >> (at & 7))
        at += 1
    return at


@numba.njit(cache=True)
def _get(raw: Bytes, at: int, bits: int) -> tuple[np.uint64, int]:
    value = np.uint64(0)
    for _ in range(bits):
        value = (value << np.uint64(1)) | np.uint64((raw[at >> 3] >> (7 - (at & 7))) & 1)
        at += 1
    return value, at


@numba.njit(cache=True)
def _put_change(out: Bytes, at: int, change: int) -> int:
    """A delta of delta: its class in one to four bits, then as many bits as the class has."""
    if change == 0:
        return _put(out, at, np.uint64(0), 1)
    if -63 <= change <= 64:
        return _put(out, _put(out, at, np.uint64(2), 2), np.uint64(change + 63), 7)
    if -255 <= change <= 256:
        return _put(out, _put(out, at, np.uint64(6), 3), np.uint64(change + 255), 9)
    if -2047 <= change <= 2048:
        return _put(out, _put(out, at, np.uint64(14), 4), np.uint64(change + 2047), 12)
    return _put(out, _put(out, at, np.uint64(15), 4), np.uint64(change), 64)


@numba.njit(cache=True)
def _get_change(raw: Bytes, at: int) -> tuple[int, int]:
    ones = 0
    while ones < 4:
        bit, at = _get(raw, at, 1)
        if not bit:
            break
        ones += 1
    if ones == 0:
        return np.int64(0), at
    bits, least = ((7, 63), (9, 255), (12, 2047), (64, 0))[ones - 1]
    value, at = _get(raw, at, bits)
    return np.int64(value) - least, at


@numba.njit(cache=True)
def _zeros(value: np.uint64) -> tuple[int, int]:
    leading, trailing = 0, 0
    while leading < 31 and not (value >> np.uint64(63 - leading)) & np.uint64(1):
        leading += 1
    while not (value >> np.uint64(trailing)) & np.uint64(1):
        trailing += 1
    return leading, trailing


@numba.njit(cache=True)
def _encode(start: I64, t_ms: I64, bits: U64, out: Bytes) -> int:
    at = 0
    for run in range(len(start) - 1):
        time, delta = np.int64(0), np.int64(0)
        before, leading, trailing = np.uint64(0), 99, 0
        for i in range(start[run], start[run + 1]):
            if i == start[run]:
                at = _put(out, _put(out, at, np.uint64(t_ms[i]), 64), bits[i], 64)
                time, before = t_ms[i], bits[i]
                continue
            at = _put_change(out, at, t_ms[i] - time - delta)
            delta = t_ms[i] - time
            mixed = bits[i] ^ before
            time, before = t_ms[i], bits[i]
            if mixed == 0:
                at = _put(out, at, np.uint64(0), 1)
                continue
            now_leading, now_trailing = _zeros(mixed)
            if leading <= now_leading and trailing <= now_trailing:
                at = _put(out, at, np.uint64(2), 2)
            else:
                leading, trailing = now_leading, now_trailing
                at = _put(out, _put(out, at, np.uint64(3), 2), np.uint64(leading), 5)
                at = _put(out, at, np.uint64(64 - leading - trailing - 1), 6)
            at = _put(out, at, mixed >> np.uint64(trailing), 64 - leading - trailing)
    return at


@numba.njit(cache=True)
def _decode(start: I64, raw: Bytes, t_ms: I64, bits: U64) -> None:
    at = 0
    for run in range(len(start) - 1):
        time, delta = np.int64(0), np.int64(0)
        before, leading, trailing = np.uint64(0), 0, 0
        for i in range(start[run], start[run + 1]):
            if i == start[run]:
                first, at = _get(raw, at, 64)
                time = np.int64(first)
                before, at = _get(raw, at, 64)
            else:
                change, at = _get_change(raw, at)
                delta += change
                time += delta
                bit, at = _get(raw, at, 1)
                if bit:
                    bit, at = _get(raw, at, 1)
                    if bit:
                        found, at = _get(raw, at, 5)
                        leading = np.int64(found)
                        found, at = _get(raw, at, 6)
                        trailing = 64 - leading - np.int64(found) - 1
                    mixed, at = _get(raw, at, 64 - leading - trailing)
                    before ^= mixed << np.uint64(trailing)
            t_ms[i], bits[i] = time, before


def encode(start: I64, t_ms: I64, value: NDArray[np.float64]) -> bytes:
    """Packs runs of one signal each; run i is the samples [start[i], start[i + 1])."""
    out = np.zeros(len(t_ms) * _ROOM_BITS // 8 + 8, np.uint8)
    packed: bytes = out[: (_encode(start, t_ms, value.view(np.uint64), out) + 7) // 8].tobytes()
    return packed


def decode(start: I64, raw: bytes) -> tuple[I64, NDArray[np.float64]]:
    """Unpacks what `encode` packed: times and values."""
    t_ms, bits = np.empty(start[-1], np.int64), np.empty(start[-1], np.uint64)
    _decode(start, np.frombuffer(raw, np.uint8), t_ms, bits)
    return t_ms, bits.view(np.float64)
