"""Model files to packages and packages to estimators: the short way through build, sign, load and bind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from twinmodel.estimator import Estimator
from twinmodel.package.archive import load
from twinmodel.package.build import build
from twinmodel.package.signing import sign


def open_estimator(
    blob: bytes, trusted: Mapping[str, Ed25519PublicKey], *, tier: str = "auto", cache_dir: Path | None = None
) -> Estimator:
    """An estimator of a signed package, after everything about it has been verified.

    Raises:
        PackageError: see `archive.load`.
        ConflictError: PARITY_FAILED.
    """
    return Estimator(load(blob, trusted), tier=tier, cache_dir=cache_dir)


def build_signed(path: Path, private_key: Ed25519PrivateKey) -> bytes:
    """The signed package of a model file."""
    return sign(build(path), private_key)
