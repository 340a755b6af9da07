"""Everything that can be checked of a package on this machine: content, signature, bits on each tier, time to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from twinmodel.clock import Clock
from twinmodel.errors import ConflictError, PackageError, StorageError
from twinmodel.estimator import TIERS as CHOICES
from twinmodel.estimator import Estimator
from twinmodel.package.archive import ModelPackage, load, open_at_desk, signer

TIERS: Final = tuple(tier for tier in CHOICES if tier != "auto")
LOADS: Final = 25
Bits = Literal["same", "different", "not available"]
Signature = Literal["none", "valid", "unknown key"]


@dataclass(frozen=True, slots=True)
class TierCheck:
    """The package's parity run on one tier.

    Attributes:
        tier: its name.
        bits: compared with those of the machine that built the package.
        why: why they differ or the tier cannot be had, empty when they are the same.
    """

    tier: str
    bits: Bits
    why: str


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found.

    Attributes:
        package: opened; its content has been checked completely.
        signature: `valid` when a trusted key made it, `unknown key` when none of the trusted ones did.
        signer: id of the key the file names, empty when unsigned.
        tiers: one check each.
        load_ns: median time to verify and open the file.
    """

    package: ModelPackage
    signature: Signature
    signer: str
    tiers: tuple[TierCheck, ...]
    load_ns: int

    @property
    def refusals(self) -> tuple[str, ...]:
        """Reasons for which a gateway like this machine, with these trusted keys, would not run it."""
        signatures = {"none": "PACKAGE_UNSIGNED", "unknown key": "SIGNER_UNKNOWN", "valid": ""}
        differing = any(check.bits == "different" for check in self.tiers)
        return tuple(filter(None, (signatures[self.signature], "PARITY_FAILED" if differing else "")))


def examine(
    blob: bytes,
    trusted: Mapping[str, Ed25519PublicKey],
    clock: Clock,
    *,
    tiers: Sequence[str] = TIERS,
    cache_dir: Path | None = None,
) -> Examination:
    """Checks a package file.

    Args:
        blob: the whole file.
        trusted: key id -> public key; may be empty.
        clock: what loading is timed by.
        tiers: which to run the parity vector on; `jit` may compile first.
        cache_dir: folder of compiled kernels.

    Raises:
        PackageError: PACKAGE_TRUNCATED, PACKAGE_ALTERED or PACKAGE_INVALID: nothing of it may be believed.
    """
    package = open_at_desk(blob)
    named = signer(blob)
    signature: Signature = "none" if not named else "unknown key"
    if named in trusted:
        package, signature = load(blob, trusted), "valid"
    checks = tuple(_check(package, tier, cache_dir) for tier in tiers)
    return Examination(package, signature, named, checks, _timed(blob, trusted, clock))


def _check(package: ModelPackage, tier: str, cache_dir: Path | None) -> TierCheck:
    try:
        used = Estimator(package, tier=tier, cache_dir=cache_dir).tier
    except ConflictError as error:
        if error.reason == "PARITY_FAILED":
            return TierCheck(tier, "different", error.message)
        return TierCheck(tier, "not available", error.message)
    except StorageError as error:
        return TierCheck(tier, "not available", error.message)
    return TierCheck(tier, "same", "") if used == tier else TierCheck(tier, "not available", f"{used} ran instead")


def _timed(blob: bytes, trusted: Mapping[str, Ed25519PublicKey], clock: Clock) -> int:
    times = []
    for _ in range(LOADS):
        begun_ns = clock.boot_ns()
        try:
            load(blob, trusted)
        except PackageError:  # unsigned or of a stranger: the time to open it without asking for the signer
            begun_ns = clock.boot_ns()
            open_at_desk(blob)
        times.append(clock.boot_ns() - begun_ns)
    return round(median(times))
