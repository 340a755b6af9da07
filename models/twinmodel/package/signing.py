"""Signing of model packages with Ed25519 keys, and the files those keys live in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from twinmodel.errors import ConfigError, ConflictError
from twinmodel.package.archive import pack, unpack

_PEM_MAX: Final = 16 * 1024


def generate_key() -> Ed25519PrivateKey:
    """A new signing key."""
    return Ed25519PrivateKey.generate()


def key_id(public_key: Ed25519PublicKey) -> str:
    """First 16 hex digits of the SHA-256 of the raw public key; names a signer."""
    raw = public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def sign(blob: bytes, private_key: Ed25519PrivateKey) -> bytes:
    """The package with this signature; one it had before is replaced.

    Raises:
        PackageError: PACKAGE_TRUNCATED, PACKAGE_ALTERED or PACKAGE_INVALID when the file is not sound.
    """
    envelope = unpack(blob)
    signature = bytes.fromhex(key_id(private_key.public_key())) + private_key.sign(envelope.model_id)
    return pack(envelope.manifest, envelope.tensors, signature)


def save_private_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Writes a private key as PEM, readable by its owner alone; never overwrites.

    Raises:
        ConflictError: ALREADY_EXISTS.
    """
    _save(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def save_public_key(path: Path, key: Ed25519PublicKey) -> None:
    """Writes a public key as PEM; never overwrites."""
    _save(path, public_pem(key), 0o644)


def public_pem(key: Ed25519PublicKey) -> bytes:
    """PEM of a public key."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Reads a private key.

    Raises:
        ConfigError: FILE_MISSING, or VALUE_INVALID when it holds no Ed25519 private key.
    """
    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = "give the private key that `twinctl model keygen` made"
        raise ConfigError(
            "VALUE_INVALID", "the file holds no private key in PEM form", hint=hint, path=str(path)
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("VALUE_INVALID", "the key is no Ed25519 private key", path=str(path))
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Reads a public key; see `load_private_key`."""
    return parse_public_key(_read(path), str(path))


def parse_public_key(pem: bytes, path: str = "") -> Ed25519PublicKey:
    """A public key from PEM.

    Raises:
        ConfigError: VALUE_INVALID when it holds no Ed25519 public key.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = "give the .pub file that `twinctl model keygen` made"
        raise ConfigError("VALUE_INVALID", "no public key in PEM form", hint=hint, path=path or None) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError("VALUE_INVALID", "the key is no Ed25519 public key", path=path or None)
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_PEM_MAX)
    except OSError as error:
        raise ConfigError("FILE_MISSING", f"cannot read the key: {error.strerror}", path=str(path)) from error


def _save(path: Path, pem: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConflictError("ALREADY_EXISTS", f"key file {path} exists; it is not overwritten") from error
    except OSError as error:
        raise ConfigError("FILE_MISSING", f"cannot write the key: {error.strerror}", path=str(path)) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(descriptor)
