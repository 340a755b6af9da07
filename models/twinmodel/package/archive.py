"""The one file of a model package, and the only door a model comes in by.

    0    8   magic  "TWINPKG" and a zero byte
    8    4   format version, little endian like all that follow
    12   4   length of the manifest
    16   8   length of the tensors
    24   4   length of the signature block: 0 or 72
    28   4   zero
    32   32  model id: sha256(manifest || sha256(tensors))
    64       manifest, zeros up to a multiple of 64, tensors, signature block = key id (8) || Ed25519 of the model id

Every byte is covered: by the id, by the signature, or by having only one allowed value. Nothing is parsed before
lengths, hash and signature are right, and no length is believed before it is compared with the file's.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from twinmodel.errors import PackageError
from twinmodel.package.manifest import MANIFEST_MAX, Manifest, PortEntry, TensorEntry, read
from twinmodel.package.tensors import Tensors, check

MAGIC: Final = b"TWINPKG\0"
FORMAT: Final = 1
TENSORS_MAX: Final = 4 * 1024 * 1024
SIGNATURE_SIZE: Final = 72
ALIGNMENT: Final = 64
_HEADER: Final = struct.Struct("<8sIIQII32s")


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output of a model.

    Attributes:
        name: as in the model file.
        unit: unit of its values.
        low, high: plausible range, None where none is declared.
        nominal: typical value.
        resolution: step its values are stored in.
    """

    name: str
    unit: str
    low: float | None
    high: float | None
    nominal: float
    resolution: float


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A verified package; only `load` makes one, and `open_at_desk` one that nobody vouches for.

    Attributes:
        model_id: hex SHA-256 of the content; the same for every signer.
        digest: SHA-256 of the whole file, what artifacts are addressed by.
        manifest: every fact but the arrays.
        tensors: arrays by name, read-only.
        signer: id of the key that vouches for it, empty at the desk.
    """

    model_id: str
    digest: bytes
    manifest: Manifest
    tensors: Tensors = field(repr=False)
    signer: str

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """Semantic version of the model."""
        return self.manifest.version

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Inputs in the order of `u`."""
        return tuple(map(_port, self.manifest.inputs))

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Outputs in the order of `y`."""
        return tuple(map(_port, self.manifest.outputs))

    @property
    def dt_ns(self) -> int:
        """Length of a tick."""
        return self.manifest.dt_ns


@dataclass(frozen=True, slots=True)
class Envelope:
    """A file taken apart; lengths and hash are right, nothing is parsed."""

    model_id: bytes
    manifest: bytes
    tensors: bytes
    signature: bytes


def load(blob: bytes, trusted: Mapping[str, Ed25519PublicKey]) -> ModelPackage:
    """Verifies a package completely and opens it.

    Args:
        blob: the whole file.
        trusted: key id (`signing.key_id`) -> public key.

    Raises:
        PackageError: PACKAGE_TRUNCATED, PACKAGE_ALTERED, PACKAGE_INVALID, PACKAGE_UNSIGNED or SIGNER_UNKNOWN.
    """
    envelope = unpack(blob)
    if not envelope.signature:
        raise PackageError("PACKAGE_UNSIGNED", "the package carries no signature", model_id=envelope.model_id.hex())
    signer = envelope.signature[:8].hex()
    key = trusted.get(signer)
    if key is None:
        raise PackageError("SIGNER_UNKNOWN", f"the package is signed by key {signer}, which is not trusted", key=signer)
    try:
        key.verify(envelope.signature[8:], envelope.model_id)
    except InvalidSignature as error:
        raise PackageError("PACKAGE_ALTERED", f"the signature of key {signer} does not fit", key=signer) from error
    return _opened(blob, envelope, signer)


def open_at_desk(blob: bytes) -> ModelPackage:
    """Opens a package without asking who vouches for it; its `signer` is empty.

    For a person's own machine (`twinctl model run`, `verify`), where the file was built a moment ago. Gateways and
    the coordinator use `load` alone. Content is checked as completely as there.

    Raises:
        PackageError: as `load`, without the two about signers.
    """
    return _opened(blob, unpack(blob), "")


def inspect(blob: bytes) -> Manifest:
    """Reads what a package says about itself, signed or not; for viewing only, nothing of it may run.

    Raises:
        PackageError: as `load`, without the two about signers.
    """
    return open_at_desk(blob).manifest


def model_id(blob: bytes) -> str:
    """Hex id of a package, signed or not, after comparing it with the content."""
    return unpack(blob).model_id.hex()


def signer(blob: bytes) -> str:
    """Id of the key a package claims to be signed by, empty when unsigned; proves nothing."""
    return unpack(blob).signature[:8].hex()


def unpack(blob: bytes) -> Envelope:
    """Takes a file apart and compares lengths, paddings and hash.

    Raises:
        PackageError: PACKAGE_TRUNCATED, PACKAGE_ALTERED or PACKAGE_INVALID.
    """
    if blob[: len(MAGIC)] != MAGIC[: len(blob)]:
        _invalid("the file is no model package")
    if len(blob) < _HEADER.size:
        raise PackageError("PACKAGE_TRUNCATED", f"{len(blob)} bytes, the header alone has {_HEADER.size}")
    _, version, manifest_size, tensors_size, signature_size, zero, expected = _HEADER.unpack_from(blob)
    if version != FORMAT:
        _invalid(f"format version {version}, this program reads {FORMAT}")
    if zero or manifest_size > MANIFEST_MAX or tensors_size > TENSORS_MAX or signature_size not in {0, SIGNATURE_SIZE}:
        _invalid("the header names lengths beyond the limits")
    first = _aligned(_HEADER.size + manifest_size)
    total = first + tensors_size + signature_size
    if len(blob) < total:
        raise PackageError("PACKAGE_TRUNCATED", f"{len(blob)} of {total} bytes")
    if len(blob) > total:
        raise PackageError("PACKAGE_ALTERED", f"{len(blob) - total} bytes too many")
    manifest = blob[_HEADER.size : _HEADER.size + manifest_size]
    tensors = blob[first : first + tensors_size]
    if blob[_HEADER.size + manifest_size : first].strip(b"\0") or identify(manifest, tensors) != expected:
        raise PackageError("PACKAGE_ALTERED", "the content does not have the hash the file names")
    return Envelope(expected, manifest, tensors, blob[first + tensors_size :])


def pack(manifest: bytes, tensors: bytes, signature: bytes = b"") -> bytes:
    """The file of a manifest and its tensors; `signature` is empty or key id and signature."""
    identity = identify(manifest, tensors)
    header = _HEADER.pack(MAGIC, FORMAT, len(manifest), len(tensors), len(signature), 0, identity)
    padding = bytes(_aligned(len(header) + len(manifest)) - len(header) - len(manifest))
    return header + manifest + padding + tensors + signature


def identify(manifest: bytes, tensors: bytes) -> bytes:
    """sha256(manifest || sha256(tensors)): the identity of a model."""
    return hashlib.sha256(manifest + hashlib.sha256(tensors).digest()).digest()


def lay_out(tensors: Mapping[str, NDArray[Any]]) -> tuple[list[TensorEntry], bytes]:
    """Writes arrays one after the other, sorted by name, each at a multiple of 64."""
    entries: list[TensorEntry] = []
    parts: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        kind = "f8" if tensor.dtype == np.float64 else "i4"
        raw = np.ascontiguousarray(tensor).astype(f"<{kind}").tobytes()
        entries.append(TensorEntry(name=name, dtype=kind, shape=tensor.shape, offset=offset))
        parts += [raw, bytes(_aligned(len(raw)) - len(raw))]
        offset += _aligned(len(raw))
    return entries, b"".join(parts)


def _opened(blob: bytes, envelope: Envelope, signer: str) -> ModelPackage:
    manifest = read(envelope.manifest)
    tensors = _tensors(manifest, envelope.tensors)
    check(manifest, tensors)
    return ModelPackage(envelope.model_id.hex(), hashlib.sha256(blob).digest(), manifest, tensors, signer)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _invalid(message: str) -> NoReturn:
    raise PackageError("PACKAGE_INVALID", message)


def _tensors(manifest: Manifest, raw: bytes) -> dict[str, NDArray[Any]]:
    """Arrays over the bytes themselves: nothing is allocated by what the manifest claims."""
    tensors: dict[str, NDArray[Any]] = {}
    offset = 0
    for entry in manifest.tensors:
        size = math.prod(entry.shape) * int(entry.dtype[1])
        if entry.offset != offset or offset + size > len(raw):
            _invalid(f"array {entry.name} does not lie where it must")
        end = min(_aligned(offset + size), len(raw))
        if raw[offset + size : end].strip(b"\0"):
            _invalid(f"the gap behind array {entry.name} is not empty")
        tensor = np.frombuffer(raw, f"<{entry.dtype}", size // int(entry.dtype[1]), offset)
        tensors[entry.name] = tensor.reshape(entry.shape)
        offset = end
    if offset != len(raw):
        _invalid("bytes behind the last array")
    return tensors


def _port(entry: PortEntry) -> Port:
    return Port(entry.name, entry.unit, entry.low, entry.high, entry.nominal, entry.resolution)
