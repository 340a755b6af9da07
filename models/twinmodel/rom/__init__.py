"""A package at a person's desk: opened, examined on every tier, compared, run over measured data, replayed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from twinmodel.estimator import Estimator
from twinmodel.package.archive import load


def open_estimator(
    blob: bytes, trusted: Mapping[str, Ed25519PublicKey], *, tier: str = "auto", cache_dir: Path | None = None
) -> Estimator:
    """An estimator of a signed package, after everything about it has been verified.

    Raises:
        PackageError: see `archive.load`.
        ConflictError: PARITY_FAILED.
    """
    return Estimator(load(blob, trusted), tier=tier, cache_dir=cache_dir)
