"""What the downlink needs of the agent: a store of packages, a source of their bytes, a way to make them run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from twinmodel.estimator import Estimator
from twinmodel.package.archive import ModelPackage
from twinsync.transfer import PartFile

Fetch = Callable[[bytes, int], AsyncGenerator[tuple[int, int, bytes], None]]
"""Chunks (offset, total, bytes) of an artifact from an offset on.

Raises UNKNOWN_MODEL when there is none, COORDINATOR_UNREACHABLE when the link is down or was cut.
"""

Build = Callable[[str, ModelPackage], Estimator]
"""The estimator of a package for a twin; raises MODEL_UNFIT, PARITY_FAILED. Runs in a thread, may take seconds."""


class PackageStore(Protocol):
    """Packages by digest, and what should run; methods block and are called in a thread."""

    def has(self, digest: bytes) -> bool:
        """Whether the package's file is here."""
        ...

    def load(self, digest: bytes) -> ModelPackage:
        """The package, verified; raises MissingError, PackageError, StorageError."""
        ...

    def part(self, digest: bytes) -> PartFile:
        """Its unfinished download."""
        ...

    def take_part(self, digest: bytes) -> ModelPackage:
        """The package of a complete download, verified and kept; raises PackageError, StorageError."""
        ...

    def version_of(self, twin: str) -> int:
        """Version of what should run for a twin, -1 for nothing; does not block."""
        ...

    def want(self, twin: str, *, digest: bytes, version: int, name: str) -> None:
        """Keeps durably what should run for a twin; raises StorageError, nothing has changed then."""
        ...

    def take_back(self, twin: str) -> None:
        """Undoes the last `want` of a twin; raises StorageError."""
        ...
