"""Arrays of `.npz` and `.safetensors` files, read as numbers and nothing else: no pickle, no trust in any length.

Both formats are taken apart here, by the little of them that arrays of numbers need. Whatever a file claims is compared
with its size before memory is asked for.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from twinmodel.errors import ConfigError

F64 = NDArray[np.float64]
FILE_MAX: Final = 8 << 20
NUMBERS_MAX: Final = 1 << 20
ARRAYS_MAX: Final = 256
DIMENSIONS_MAX: Final = 4
HEADER_MAX: Final = 256 << 10
_DIRECTORY_MAX: Final = 64 << 10
_NPY: Final = b"\x93NUMPY"
_NPY_HEADER: Final = re.compile(
    rb"\{'descr': '([<>|=][fiub]\d)', 'fortran_order': (True|False), 'shape': \(((?:\d{1,9},? ?)*)\),? *\}\s*"
)
_SAFE: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"} | {
    f"{letter}{8 * size}": f"<{letter.lower()}{size}" for letter in "IU" for size in (1, 2, 4, 8)
}
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,127}")


@dataclass(frozen=True, slots=True)
class Arrays:
    """Numbers of a file.

    Attributes:
        values: arrays by name, as float64.
        metadata: texts beside them (`.safetensors` only).
    """

    values: Mapping[str, F64]
    metadata: Mapping[str, str]


def read_arrays(path: Path) -> Arrays:
    """Reads all arrays of a file.

    Raises:
        ConfigError: FILE_MISSING, or VALUE_INVALID for anything that is not a small file of finite numbers.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ConfigError("FILE_MISSING", f"cannot read it: {error.strerror}", path=str(path)) from error
    return parse_arrays(raw, str(path))


def parse_arrays(raw: bytes, path: str = "<bytes>") -> Arrays:
    """Arrays of the bytes of a file; see `read_arrays`."""
    if len(raw) > FILE_MAX:
        _refuse(path, f"the file is larger than {FILE_MAX >> 20} MiB")
    return _npz(raw, path) if raw[:4] == b"PK\3\4" else _safetensors(raw, path)


def safetensors(values: Mapping[str, F64]) -> bytes:
    """A `.safetensors` file of float64 arrays, by name; the same arrays give the same bytes."""
    header: dict[str, object] = {}
    parts: list[bytes] = []
    offset = 0
    for name in sorted(values):
        raw = np.ascontiguousarray(values[name], "<f8").tobytes()
        header[name] = {"dtype": "F64", "shape": list(values[name].shape), "data_offsets": [offset, offset + len(raw)]}
        parts.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    # The numbers begin at a multiple of 8, as the format asks for.
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def _npz(raw: bytes, path: str) -> Arrays:
    # One entry of the directory makes an object of half a kilobyte, so its length is bounded before it is read.
    end = raw.rfind(b"PK\5\6")
    if end < 0 or len(raw) < end + 22 or b"PK\6\7" in raw[max(end - 20, 0) : end]:
        _refuse(path, "no whole .npz file")
    if struct.unpack_from("<I", raw, end + 12)[0] > _DIRECTORY_MAX:
        _refuse(path, f"the directory of the file is larger than {_DIRECTORY_MAX >> 10} KiB")
    values: dict[str, F64] = {}
    budget = NUMBERS_MAX * 8
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                _check_name(name, values, path)
                if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    _refuse(path, f"array {name} is packed in an unknown way")
                with archive.open(entry) as file:
                    content = file.read(budget + 1)
                budget -= len(content)
                if budget < 0:
                    _refuse(path, f"more than {NUMBERS_MAX} numbers")
                values[name] = _npy(content, name, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ConfigError("VALUE_INVALID", f"no sound .npz file: {error}", path=path) from error
    return Arrays(values, {})


def _npy(content: bytes, name: str, path: str) -> F64:
    if content[:6] != _NPY or len(content) < 12 or content[6] not in {1, 2}:
        _refuse(path, f"array {name} is no .npy file of version 1 or 2")
    form, first = ("<H", 10) if content[6] == 1 else ("<I", 12)
    start = first + int(struct.unpack_from(form, content, 8)[0])
    found = _NPY_HEADER.fullmatch(content, first, start) if start <= min(len(content), HEADER_MAX) else None
    if found is None:
        hint = "save it as an array of numbers; objects and texts are never read"
        raise ConfigError("VALUE_INVALID", f"array {name} holds no plain numbers", hint=hint, path=path)
    shape = tuple(int(part) for part in found[3].split(b",") if part.strip())
    order: Any = "F" if found[2] == b"True" else "C"
    try:
        kind = np.dtype(found[1].decode())
    except TypeError:
        _refuse(path, f"array {name} holds numbers of a size that does not exist")
    return _numbers(content[start:], kind, shape, (name, path), order)


def _safetensors(raw: bytes, path: str) -> Arrays:
    if len(raw) < 10:
        _refuse(path, "neither .npz nor .safetensors")
    length = int(struct.unpack_from("<Q", raw)[0])
    if not 2 <= length <= min(HEADER_MAX, len(raw) - 8):
        _refuse(path, "neither .npz nor .safetensors: the header would be longer than the file or the limit")
    try:
        header = json.loads(raw[8 : 8 + length].decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError("VALUE_INVALID", f"the .safetensors header is no JSON: {error}", path=path) from error
    if not isinstance(header, dict):
        _refuse(path, "the .safetensors header is no mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(path, "the .safetensors metadata are no texts")
    values: dict[str, F64] = {}
    for name, entry in header.items():
        _check_name(name, values, path)
        values[name] = _safe_entry(entry, raw, 8 + length, (name, path))
    return Arrays(values, metadata)


def _safe_entry(entry: object, raw: bytes, base: int, about: tuple[str, str]) -> F64:
    name, path = about
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(first), int(end)], **more} if not more:
            pass
        case _:
            _refuse(path, f"array {name} is described in an unknown way")
    if kind not in _SAFE or not all(type(size) is int and size >= 0 for size in shape):
        _refuse(path, f"array {name} has an unknown type or shape")
    if not 0 <= first <= end <= len(raw) - base:
        _refuse(path, f"array {name} does not lie within the file")
    content = raw[base + first : base + end]
    if kind == "BF16":
        # The upper half of a float32.
        wide = np.frombuffer(content[: len(content) // 2 * 2], "<u2").astype("<u4") << 16
        return _numbers(wide.tobytes(), np.dtype("<f4"), tuple(shape), about)
    return _numbers(content, np.dtype(_SAFE[kind]), tuple(shape), about)


def _numbers(
    content: bytes, kind: np.dtype[Any], shape: tuple[int, ...], about: tuple[str, str], order: Any = "C"
) -> F64:
    """The bytes as float64, after every claim was compared with their number."""
    name, path = about
    if len(shape) > DIMENSIONS_MAX or math.prod(shape) > NUMBERS_MAX:
        _refuse(path, f"array {name} has more than {NUMBERS_MAX} numbers or {DIMENSIONS_MAX} dimensions")
    if len(content) != math.prod(shape) * kind.itemsize:
        _refuse(path, f"array {name} of shape {shape} has {len(content)} bytes")
    values = np.frombuffer(content, kind).reshape(shape, order=order).astype(np.float64)
    if not np.isfinite(values).all():
        _refuse(path, f"array {name} holds a number that is not finite")
    return np.ascontiguousarray(values)


def _check_name(name: str, known: Mapping[str, F64], path: str) -> None:
    if _NAME.fullmatch(name) is None or name in known:
        _refuse(path, f"an array is called {name[:40]!r}, or two are")
    if len(known) >= ARRAYS_MAX:
        _refuse(path, f"more than {ARRAYS_MAX} arrays")


def _refuse(path: str, message: str) -> NoReturn:
    raise ConfigError("VALUE_INVALID", message, path=path)
